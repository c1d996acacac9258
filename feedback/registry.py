"""The registry on a Redis-protocol server: JSON records, compare-and-set, one generation counter.

Every change reads and writes under WATCH/MULTI, so that it happens whole or is done anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, TypeVar

import orjson
import redis

from feedback import keys
from feedback.errors import Conflict, InvalidTransition, UnknownRecord
from feedback.leases import Leases
from feedback.protocols import AdapterRecord, AdapterState, AliasRecord, Arm, ExperimentRecord, KeyRecord
from feedback.states import moved
from feedback.store import translated

R = TypeVar("R")
_PREVIOUS = 8  # how many former live adapters an alias remembers


def _dump(record: Any) -> bytes:
    return orjson.dumps(asdict(record))


def _load(cls: type[R], data: bytes | None, kind: str, name: str) -> R:
    if data is None:
        raise UnknownRecord(kind, name)
    body = orjson.loads(data)
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in body.items() if key in known}
    if cls is ExperimentRecord:
        values["arms"] = tuple(Arm(**arm) for arm in values["arms"])
    return cls(**values)


class RedisRegistry(Leases):
    """See ``protocols.Registry``."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)

    def generation(self) -> int:
        with translated():
            return int(self._client.get(keys.GENERATION) or 0)

    def next_sequence(self) -> int:
        with translated():
            return int(self._client.incr(keys.SEQUENCE))

    def _change(self, change: Callable[[Any], R], *watched: str) -> R:
        """Run ``change(pipe)``: it reads, calls ``pipe.multi()``, and queues writes."""

        def whole(pipe: Any) -> R:
            result = change(pipe)
            pipe.incr(keys.GENERATION)
            return result

        with translated():
            result: R = self._client.transaction(whole, *watched, value_from_callable=True)
        return result

    def add_adapter(self, record: AdapterRecord) -> AdapterRecord:
        def change(pipe: Any) -> AdapterRecord:
            standing = pipe.hget(keys.ADAPTERS, record.id)
            pipe.multi()
            if standing is not None:
                return _load(AdapterRecord, standing, "adapter", record.id)
            pipe.hset(keys.ADAPTERS, record.id, _dump(record))
            return record

        return self._change(change, keys.ADAPTERS)

    def adapter(self, adapter_id: str) -> AdapterRecord:
        with translated():
            return _load(AdapterRecord, self._client.hget(keys.ADAPTERS, adapter_id), "adapter", adapter_id)

    def adapters(self, alias: str | None = None) -> list[AdapterRecord]:
        records = self._all(AdapterRecord, keys.ADAPTERS)
        chosen = [record for record in records if alias is None or record.alias == alias]
        return sorted(chosen, key=lambda record: record.id)

    def transition(self, adapter_id: str, to: AdapterState, reason: str) -> AdapterRecord:
        if to == "live":
            raise InvalidTransition(adapter_id, "not promoted", "live without promote")

        def change(pipe: Any) -> AdapterRecord:
            record = moved(
                _load(AdapterRecord, pipe.hget(keys.ADAPTERS, adapter_id), "adapter", adapter_id), to, reason
            )
            pipe.multi()
            pipe.hset(keys.ADAPTERS, adapter_id, _dump(record))
            return record

        return self._change(change, keys.ADAPTERS)

    def alias(self, name: str) -> AliasRecord:
        with translated():
            return _load(AliasRecord, self._client.hget(keys.ALIASES, name), "alias", name)

    def aliases(self) -> list[AliasRecord]:
        return sorted(self._all(AliasRecord, keys.ALIASES), key=lambda record: record.name)

    def put_alias(self, record: AliasRecord) -> AliasRecord:
        return self._put(keys.ALIASES, record.name, record)

    def promote(self, alias: str, adapter_id: str | None, reason: str) -> AliasRecord:
        def change(pipe: Any) -> AliasRecord:
            record = _load(AliasRecord, pipe.hget(keys.ALIASES, alias), "alias", alias)
            if record.live == adapter_id:
                pipe.multi()
                return record
            touched = []
            if adapter_id is not None:
                chosen = _load(AdapterRecord, pipe.hget(keys.ADAPTERS, adapter_id), "adapter", adapter_id)
                touched.append(moved(chosen, "live", reason))
            if record.live is not None:
                former = _load(AdapterRecord, pipe.hget(keys.ADAPTERS, record.live), "adapter", record.live)
                touched.append(moved(former, "retired", f"followed by {adapter_id or 'base'}"))
            previous = (record.live, *record.previous)[:_PREVIOUS]
            changed = replace(record, live=adapter_id, previous=previous, version=record.version + 1)
            return self._write_alias(pipe, changed, touched)

        return self._change(change, keys.ALIASES, keys.ADAPTERS)

    def rollback(self, alias: str, reason: str) -> AliasRecord:
        def change(pipe: Any) -> AliasRecord:
            record = _load(AliasRecord, pipe.hget(keys.ALIASES, alias), "alias", alias)
            if not record.previous or record.live is None:
                raise InvalidTransition(f"alias {alias}", "at its first adapter", "rolled back")
            back = record.previous[0]
            left = _load(AdapterRecord, pipe.hget(keys.ADAPTERS, record.live), "adapter", record.live)
            touched = [moved(left, "rejected", reason)]
            if back is not None:
                former = _load(AdapterRecord, pipe.hget(keys.ADAPTERS, back), "adapter", back)
                touched.append(moved(former, "live", f"rolled back to: {reason}"))
            changed = replace(record, live=back, previous=record.previous[1:], version=record.version + 1)
            return self._write_alias(pipe, changed, touched)

        return self._change(change, keys.ALIASES, keys.ADAPTERS)

    @staticmethod
    def _write_alias(pipe: Any, record: AliasRecord, adapters: Sequence[AdapterRecord]) -> AliasRecord:
        pipe.multi()
        pipe.hset(keys.ALIASES, record.name, _dump(record))
        for adapter in adapters:
            pipe.hset(keys.ADAPTERS, adapter.id, _dump(adapter))
        return record

    def experiment(self, name: str) -> ExperimentRecord:
        with translated():
            return _load(ExperimentRecord, self._client.hget(keys.EXPERIMENTS, name), "experiment", name)

    def experiments(self, alias: str | None = None) -> list[ExperimentRecord]:
        records = self._all(ExperimentRecord, keys.EXPERIMENTS)
        chosen = [record for record in records if alias is None or record.alias == alias]
        return sorted(chosen, key=lambda record: (record.created, record.name))

    def put_experiment(self, record: ExperimentRecord) -> ExperimentRecord:
        if record.status == "running":
            for other in self.experiments(record.alias):
                if other.name != record.name and other.status == "running":
                    raise Conflict(f"alias {record.alias}: experiment {other.name} is running; it", 0, 1)
        return self._put(keys.EXPERIMENTS, record.name, record)

    def keys(self) -> list[KeyRecord]:
        return sorted(self._all(KeyRecord, keys.ACCESS), key=lambda record: record.created)

    def put_key(self, record: KeyRecord) -> None:
        def change(pipe: Any) -> None:
            pipe.multi()
            pipe.hset(keys.ACCESS, record.id, _dump(record))

        self._change(change, keys.ACCESS)

    def report_engine(self, engine: str, adapters: Sequence[str], ttl_seconds: float) -> None:
        with translated():
            self._client.set(keys.engine(engine), orjson.dumps(list(adapters)), px=int(ttl_seconds * 1000))

    def engines(self) -> dict[str, tuple[str, ...]]:
        with translated():
            names = sorted(self._client.scan_iter(match=keys.engine("*"), count=1000))
            values = self._client.mget(names) if names else []
        prefix = len(keys.engine(""))
        return {
            name.decode()[prefix:]: tuple(orjson.loads(value))
            for name, value in zip(names, values, strict=True)
            if value is not None
        }

    def loop(self, alias: str) -> dict[str, Any]:
        with translated():
            stored = self._client.hgetall(keys.loop(alias))
        return {field.decode(): orjson.loads(value) for field, value in stored.items()}

    def set_loop(self, alias: str, values: Mapping[str, Any]) -> None:
        if values:
            with translated():
                self._client.hset(keys.loop(alias), mapping={k: orjson.dumps(v) for k, v in values.items()})

    def _all(self, cls: type[R], key: str) -> list[R]:
        with translated():
            stored = self._client.hgetall(key)
        return [_load(cls, data, key, name.decode()) for name, data in stored.items()]

    def _put(self, key: str, name: str, record: Any) -> Any:
        def change(pipe: Any) -> Any:
            data = pipe.hget(key, name)
            found = orjson.loads(data)["version"] if data is not None else 0
            if found != record.version or (data is not None and record.version == 0):
                raise Conflict(name, record.version, found)
            pipe.multi()
            written = replace(record, version=record.version + 1)
            pipe.hset(key, name, _dump(written))
            return written

        return self._change(change, key)
