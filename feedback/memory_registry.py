"""The registry in process: the twin of ``registry.RedisRegistry``, by the same rules."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import orjson

from feedback.errors import UnknownRecord
from feedback.leases import check_token
from feedback.memory_quarantine import MemoryQuarantine
from feedback.protocols import (
    USES_KEPT,
    AdapterRecord,
    AdapterState,
    AliasRecord,
    ExperimentRecord,
    KeyRecord,
)
from feedback.states import (
    check_arms,
    check_only_one_runs,
    check_version,
    ended_by_promotion,
    ended_by_rollback,
    in_order,
    promoted,
    rolled_back,
    transitioned,
)

R = TypeVar("R")
V = TypeVar("V", AliasRecord, ExperimentRecord)


class MemoryRegistry(MemoryQuarantine):
    """See ``protocols.Registry``."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.RLock()
        self._generation = self._sequence = 0
        self._adapters: dict[str, AdapterRecord] = {}
        self._aliases: dict[str, AliasRecord] = {}
        self._experiments: dict[str, ExperimentRecord] = {}
        self._keys: dict[str, KeyRecord] = {}
        self._engines: dict[str, tuple[tuple[str, ...], float]] = {}
        self._draining: set[str] = set()
        self._uses: dict[str, float] = {}
        self._loops: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
        self._leases: dict[str, tuple[str, int, float]] = {}  # holder, token, until (monotonic)
        self._receipts: dict[str, bytes] = {}
        self._fences: defaultdict[str, int] = defaultdict(int)

    def generation(self) -> int:
        return self._generation

    def next_sequence(self) -> int:
        with self._lock:
            self._sequence += 1
            return self._sequence

    def add_adapter(self, record: AdapterRecord, lease: tuple[str, int] | None = None) -> AdapterRecord:
        with self._lock:
            if lease is not None:
                self.check(*lease)
            if record.id not in self._adapters:
                self._adapters[record.id] = record
                self._generation += 1
            return self._adapters[record.id]

    def adapter(self, adapter_id: str) -> AdapterRecord:
        return _found(self._adapters, "adapter", adapter_id)

    def adapters(self, alias: str | None = None) -> list[AdapterRecord]:
        return list(in_order(list(self._adapters.values()), alias))

    def transition(self, adapter_id: str, to: AdapterState, reason: str) -> AdapterRecord:
        with self._lock:
            self._adapters[adapter_id] = transitioned(self.adapter(adapter_id), to, reason)
            self._generation += 1
            return self._adapters[adapter_id]

    def alias(self, name: str) -> AliasRecord:
        return _found(self._aliases, "alias", name)

    def aliases(self) -> list[AliasRecord]:
        return sorted(self._aliases.values(), key=lambda record: record.name)

    def put_alias(self, record: AliasRecord) -> AliasRecord:
        return self._put(self._aliases, record.name, record)

    def promote(self, alias: str, adapter_id: str | None, reason: str) -> AliasRecord:
        with self._lock:
            before = self.alias(alias)
            after, touched = promoted(before, adapter_id, reason, self.adapter)
            over = ended_by_promotion(before, after, reason, self._experiments.values())
            return self._apply(after, touched, over)

    def rollback(self, alias: str, reason: str) -> AliasRecord:
        with self._lock:
            before = self.alias(alias)
            after, touched = rolled_back(before, reason, self.adapter)
            return self._apply(after, touched, ended_by_rollback(before, reason, self._experiments.values()))

    def _apply(
        self, alias: AliasRecord, touched: Sequence[AdapterRecord], over: Sequence[ExperimentRecord]
    ) -> AliasRecord:
        if self._aliases[alias.name] != alias:
            self._generation += 1
        self._aliases[alias.name] = alias
        self._adapters.update({adapter.id: adapter for adapter in touched})
        self._experiments.update({one.name: one for one in over})
        return alias

    def experiment(self, name: str) -> ExperimentRecord:
        return _found(self._experiments, "experiment", name)

    def experiments(self, alias: str | None = None) -> list[ExperimentRecord]:
        chosen = [one for one in self._experiments.values() if alias is None or one.alias == alias]
        return sorted(chosen, key=lambda one: (one.created, one.name))

    def put_experiment(self, record: ExperimentRecord) -> ExperimentRecord:
        with self._lock:
            check_only_one_runs(record, self._experiments.values())
            _check_stands(self._experiments, record)
            check_arms(record, self._adapters.get)
            return self._put(self._experiments, record.name, record)

    def keys(self) -> list[KeyRecord]:
        return sorted(self._keys.values(), key=lambda record: (record.created, record.id))

    def put_key(self, record: KeyRecord) -> None:
        with self._lock:
            self._keys[record.id] = record
            self._generation += 1

    def report_engine(self, engine: str, adapters: Sequence[str], ttl_seconds: float) -> None:
        self._engines[engine] = (tuple(adapters), time.monotonic() + ttl_seconds)

    def engines(self) -> dict[str, tuple[str, ...]]:
        now = time.monotonic()
        return {name: ready for name, (ready, until) in sorted(self._engines.items()) if until > now}

    def draining(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._draining)

    def drain(self, engine: str, on: bool) -> None:
        with self._lock:
            (self._draining.add if on else self._draining.discard)(engine)
            self._generation += 1

    def uses(self, told: Mapping[str, float]) -> dict[str, float]:
        with self._lock:
            for adapter, seconds in told.items():
                self._uses[adapter] = max(seconds, self._uses.get(adapter, seconds))
            last = sorted(self._uses.items(), key=lambda item: (item[1], item[0]))[-USES_KEPT:]
            self._uses = dict(last)
            return dict(last)

    def loop(self, alias: str) -> dict[str, Any]:
        return {name: orjson.loads(value) for name, value in self._loops.get(alias, {}).items()}

    def set_loop(self, alias: str, values: Mapping[str, Any]) -> None:
        self._loops[alias].update({name: orjson.dumps(value) for name, value in values.items()})

    def put_receipt(self, receipt: Mapping[str, Any]) -> None:
        self._receipts[receipt["id"]] = orjson.dumps(receipt)

    def receipt(self, receipt_id: str) -> dict[str, Any]:
        body: dict[str, Any] = orjson.loads(_found(self._receipts, "receipt", receipt_id))
        return body

    def receipts(self) -> list[dict[str, Any]]:
        stored = [orjson.loads(data) for data in self._receipts.values()]
        return sorted(stored, key=lambda receipt: (receipt["requested"], receipt["id"]))

    def acquire(self, lease: str, holder: str, seconds: float) -> int | None:
        now = time.monotonic()
        with self._lock:
            held = self._leases.get(lease)
            if held is not None and held[2] > now:
                if held[0] != holder:
                    return None
                token = held[1]
            else:
                self._fences[lease] += 1
                token = self._fences[lease]
            self._leases[lease] = (holder, token, now + seconds)
            return token

    def check(self, lease: str, token: int) -> None:
        _, held, until = self._leases.get(lease, ("", None, 0.0))
        check_token(lease, token, held if until > time.monotonic() else None)

    def held(self, lease: str) -> bool:
        return self._leases.get(lease, ("", 0, 0.0))[2] > time.monotonic()

    def release(self, lease: str, holder: str) -> None:
        with self._lock:
            if lease in self._leases and self._leases[lease][0] == holder:
                del self._leases[lease]

    def _put(self, table: dict[str, V], name: str, record: V) -> V:
        with self._lock:
            _check_stands(table, record)
            table[name] = replace(record, version=record.version + 1)
            self._generation += 1
            return table[name]


def _check_stands(table: Mapping[str, V], record: V) -> None:
    standing = table.get(record.name)
    check_version(record.name, 0 if standing is None else standing.version, record.version)


def _found(table: Mapping[str, R], kind: str, name: str) -> R:
    if name not in table:
        raise UnknownRecord(kind, name)
    return table[name]
