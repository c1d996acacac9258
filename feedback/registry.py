"""The registry on a Redis-protocol server: JSON records, compare-and-set, one generation counter.

A change watches the hashes it reads and writes under MULTI: it happens whole, with the new generation and
its announcement on the channel, or is done anew from what stands then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import orjson

from feedback import keys
from feedback.errors import UnknownRecord
from feedback.leases import Leases, check_token
from feedback.protocols import (
    USES_KEPT,
    AdapterRecord,
    AdapterState,
    AliasRecord,
    ExperimentRecord,
    KeyRecord,
)
from feedback.quarantine import RedisQuarantine
from feedback.records import dump, load
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
from feedback.store import translated

R = TypeVar("R")
Writes = list[tuple[str, str, Any]]  # (hash, name, record)
_KINDS: dict[str, str] = {
    keys.ADAPTERS: "adapter",
    keys.ALIASES: "alias",
    keys.EXPERIMENTS: "experiment",
    keys.ACCESS: "key",
}
# The generation is announced after it grew, in the same step.
_ANNOUNCE = "local g = redis.call('INCR', KEYS[1]); redis.call('PUBLISH', ARGV[1], g); return g"


class RedisRegistry(Leases, RedisQuarantine):
    """See ``protocols.Registry``."""

    def generation(self) -> int:
        with translated():
            return int(self._client.get(keys.GENERATION) or 0)

    def next_sequence(self) -> int:
        with translated():
            return int(self._client.incr(keys.SEQUENCE))

    def add_adapter(self, record: AdapterRecord, lease: tuple[str, int] | None = None) -> AdapterRecord:
        def change(pipe: Any) -> tuple[AdapterRecord, Writes]:
            if lease is not None:
                check_token(*lease, pipe.hget(keys.lease(lease[0]), "token"))
            standing = _maybe(AdapterRecord, pipe.hget(keys.ADAPTERS, record.id))
            return (record, [(keys.ADAPTERS, record.id, record)]) if standing is None else (standing, [])

        return self._change(change, keys.ADAPTERS, *([keys.lease(lease[0])] if lease else []))

    def adapter(self, adapter_id: str) -> AdapterRecord:
        return self._one(AdapterRecord, keys.ADAPTERS, adapter_id)

    def adapters(self, alias: str | None = None) -> list[AdapterRecord]:
        return list(in_order(self._all(AdapterRecord, keys.ADAPTERS), alias))

    def transition(self, adapter_id: str, to: AdapterState, reason: str) -> AdapterRecord:
        def change(pipe: Any) -> tuple[AdapterRecord, Writes]:
            record = transitioned(_read(pipe, AdapterRecord, keys.ADAPTERS, adapter_id), to, reason)
            return record, [(keys.ADAPTERS, adapter_id, record)]

        return self._change(change, keys.ADAPTERS)

    def alias(self, name: str) -> AliasRecord:
        return self._one(AliasRecord, keys.ALIASES, name)

    def aliases(self) -> list[AliasRecord]:
        return sorted(self._all(AliasRecord, keys.ALIASES), key=lambda record: record.name)

    def put_alias(self, record: AliasRecord) -> AliasRecord:
        def change(pipe: Any) -> tuple[AliasRecord, Writes]:
            return _put(pipe, keys.ALIASES, record.name, record)

        return self._change(change, keys.ALIASES)

    def promote(self, alias: str, adapter_id: str | None, reason: str) -> AliasRecord:
        def change(pipe: Any) -> tuple[AliasRecord, Writes]:
            record = _read(pipe, AliasRecord, keys.ALIASES, alias)
            after, touched = promoted(record, adapter_id, reason, _finder(pipe))
            over = ended_by_promotion(record, after, reason, _experiments(pipe))
            return after, _alias_writes(record, after, touched, over)

        return self._change(change, keys.ALIASES, keys.ADAPTERS, keys.EXPERIMENTS)

    def rollback(self, alias: str, reason: str) -> AliasRecord:
        def change(pipe: Any) -> tuple[AliasRecord, Writes]:
            record = _read(pipe, AliasRecord, keys.ALIASES, alias)
            after, touched = rolled_back(record, reason, _finder(pipe))
            over = ended_by_rollback(record, reason, _experiments(pipe))
            return after, _alias_writes(record, after, touched, over)

        return self._change(change, keys.ALIASES, keys.ADAPTERS, keys.EXPERIMENTS)

    def experiment(self, name: str) -> ExperimentRecord:
        return self._one(ExperimentRecord, keys.EXPERIMENTS, name)

    def experiments(self, alias: str | None = None) -> list[ExperimentRecord]:
        records = self._all(ExperimentRecord, keys.EXPERIMENTS)
        chosen = [record for record in records if alias is None or record.alias == alias]
        return sorted(chosen, key=lambda record: (record.created, record.name))

    def put_experiment(self, record: ExperimentRecord) -> ExperimentRecord:
        def change(pipe: Any) -> tuple[ExperimentRecord, Writes]:
            check_only_one_runs(record, _experiments(pipe))
            written = _put(pipe, keys.EXPERIMENTS, record.name, record)
            check_arms(record, lambda name: _maybe(AdapterRecord, pipe.hget(keys.ADAPTERS, name)))
            return written

        return self._change(change, keys.EXPERIMENTS, keys.ADAPTERS)

    def keys(self) -> list[KeyRecord]:
        return sorted(self._all(KeyRecord, keys.ACCESS), key=lambda record: (record.created, record.id))

    def put_key(self, record: KeyRecord) -> None:
        self._change(lambda _: (None, [(keys.ACCESS, record.id, record)]), keys.ACCESS)

    def report_engine(self, engine: str, adapters: Sequence[str], ttl_seconds: float) -> None:
        with translated(), self._client.pipeline() as pipe:
            pipe.set(keys.engine(engine), orjson.dumps(list(adapters)), px=max(1, int(ttl_seconds * 1000)))
            pipe.sadd(keys.ENGINES, engine)
            pipe.execute()

    def engines(self) -> dict[str, tuple[str, ...]]:
        with translated():
            names = sorted(name.decode() for name in self._client.smembers(keys.ENGINES))
            values = self._client.mget([keys.engine(name) for name in names]) if names else []
        reports = zip(names, values, strict=True)
        return {name: tuple(orjson.loads(value)) for name, value in reports if value is not None}

    def draining(self) -> frozenset[str]:
        with translated():
            return frozenset(name.decode() for name in self._client.smembers(keys.DRAINING))

    def drain(self, engine: str, on: bool) -> None:
        with translated(), self._client.pipeline() as pipe:
            (pipe.sadd if on else pipe.srem)(keys.DRAINING, engine)
            pipe.eval(_ANNOUNCE, 1, keys.GENERATION, keys.CHANGES)
            pipe.execute()

    def uses(self, told: Mapping[str, float]) -> dict[str, float]:
        with translated(), self._client.pipeline() as pipe:
            if told:
                pipe.zadd(keys.USES, dict(told), gt=True)
                pipe.zremrangebyrank(keys.USES, 0, -USES_KEPT - 1)
            pipe.zrange(keys.USES, 0, -1, withscores=True)
            last = pipe.execute()[-1]
        return {adapter.decode(): float(seconds) for adapter, seconds in last}

    def loop(self, alias: str) -> dict[str, Any]:
        with translated():
            stored = self._client.hgetall(keys.loop(alias))
        return {field.decode(): orjson.loads(value) for field, value in stored.items()}

    def set_loop(self, alias: str, values: Mapping[str, Any]) -> None:
        if values:
            mapping = {name: orjson.dumps(value) for name, value in values.items()}
            with translated():
                self._client.hset(keys.loop(alias), mapping=mapping)

    def put_receipt(self, receipt: Mapping[str, Any]) -> None:
        with translated():
            self._client.hset(keys.RECEIPTS, receipt["id"], orjson.dumps(receipt))

    def receipt(self, receipt_id: str) -> dict[str, Any]:
        with translated():
            data = self._client.hget(keys.RECEIPTS, receipt_id)
        if data is None:
            raise UnknownRecord("receipt", receipt_id)
        body: dict[str, Any] = orjson.loads(data)
        return body

    def receipts(self) -> list[dict[str, Any]]:
        with translated():
            stored = [orjson.loads(data) for data in self._client.hvals(keys.RECEIPTS)]
        return sorted(stored, key=lambda receipt: (receipt["requested"], receipt["id"]))

    def _one(self, cls: type[R], key: str, name: str) -> R:
        with translated():
            data = self._client.hget(key, name)
        if data is None:
            raise UnknownRecord(_KINDS[key], name)
        return load(cls, data)

    def _all(self, cls: type[R], key: str) -> list[R]:
        with translated():
            stored = self._client.hvals(key)
        return [load(cls, data) for data in stored]

    def _change(self, change: Callable[[Any], tuple[R, Writes]], *watched: str) -> R:
        """Run ``change(pipe)``, which reads and says what to write, until nobody wrote in between."""

        def whole(pipe: Any) -> R:
            result, writes = change(pipe)
            pipe.multi()
            for key, name, record in writes:
                pipe.hset(key, name, dump(record))
            if writes:
                pipe.eval(_ANNOUNCE, 1, keys.GENERATION, keys.CHANGES)
            return result

        with translated():
            result: R = self._client.transaction(whole, *watched, value_from_callable=True)
        return result


def _maybe(cls: type[R], data: bytes | None) -> R | None:
    return None if data is None else load(cls, data)


def _read(pipe: Any, cls: type[R], key: str, name: str) -> R:
    record = _maybe(cls, pipe.hget(key, name))
    if record is None:
        raise UnknownRecord(_KINDS[key], name)
    return record


def _finder(pipe: Any) -> Callable[[str], AdapterRecord]:
    return lambda adapter_id: _read(pipe, AdapterRecord, keys.ADAPTERS, adapter_id)


def _experiments(pipe: Any) -> list[ExperimentRecord]:
    return [load(ExperimentRecord, data) for data in pipe.hgetall(keys.EXPERIMENTS).values()]


def _alias_writes(
    before: AliasRecord,
    after: AliasRecord,
    touched: Sequence[AdapterRecord],
    over: Sequence[ExperimentRecord],
) -> Writes:
    adapters: Writes = [(keys.ADAPTERS, adapter.id, adapter) for adapter in touched]
    experiments: Writes = [(keys.EXPERIMENTS, one.name, one) for one in over]
    return [] if after == before else [(keys.ALIASES, after.name, after), *adapters, *experiments]


def _put(pipe: Any, key: str, name: str, record: Any) -> tuple[Any, Writes]:
    standing = _maybe(type(record), pipe.hget(key, name))
    check_version(name, 0 if standing is None else standing.version, record.version)
    written = replace(record, version=record.version + 1)
    return written, [(key, name, written)]
