"""Keeps each engine's adapters as the registry wants them: verify, load, probe, report; drain, unload.

An adapter gets traffic on an engine only after this gateway has proved it there. Files are never deleted
here: an engine may read them again long after it forgot the name.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from feedback.errors import InvalidTransition, StoreUnavailable, UnknownRecord
from feedback.manifest import Manifest, fingerprint
from feedback.protocols import AdapterRecord, Registry
from serve.engines import Engine, Pool
from serve.errors import EngineError, EngineRefused
from serve.metrics import Metrics
from serve.plain_files import UnfitAdapter
from serve.probe import EngineMismatch, prove
from serve.routing import RouteTable
from serve.settings import GatewaySettings
from serve.snapshot import Snapshot
from serve.tensor_file import base_shapes
from serve.verification import Base, verify

logger = logging.getLogger(__name__)
KEPT_FOR_ROLLBACK = 2  # former live adapters per alias that stay loaded
REPORT_SECONDS, REPORT_LIFE = 2.0, 10.0
ADAPTERS_WITH_SERIES = 64  # the newest; bounds the number of metric series
LOADS = 3  # refusals by a healthy engine before an adapter is rejected
BACKOFF_SECONDS = (0.5, 2.0, 10.0, 30.0)


def wanted(table: RouteTable, places: int) -> list[str]:
    """Adapters that should be ready, most needed first, at most ``places``: what is live, what experiments
    show, where a rollback would go, and what waits to be tried, newest first.
    """
    aliases, records = table.aliases.values(), table.adapters
    newest = sorted(records.values(), key=lambda record: record.created, reverse=True)
    order: list[str | None] = [alias.live for alias in aliases]
    order += [arm.adapter for experiment in table.running.values() for arm in experiment.arms]
    order += [
        adapter
        for alias in aliases
        for adapter in islice(_servable(table, alias.previous), KEPT_FOR_ROLLBACK)
    ]
    for state in ("live", "canary", "candidate"):
        order += [record.id for record in newest if record.state == state]
    return list(dict.fromkeys(_servable(table, order)))[:places]


def _servable(table: RouteTable, adapters: Iterable[str | None]) -> Iterator[str]:
    for adapter in adapters:
        record = table.adapters.get(adapter or "")
        if record is not None and record.state != "rejected":
            yield record.id


def seen_by_engines(settings: GatewaySettings, adapter: str) -> str:
    """The adapter's folder as the engines see it."""
    return str((settings.engine_adapters_dir or settings.adapters_dir) / adapter)


async def load_from(engine: Engine, adapter: str, folder: str) -> None:
    """Have the engine hold the adapter from this folder; nothing happens when it does. Another gateway may
    be loading the same at this moment. A name loaded from elsewhere is left of a former life of the engine:
    the bytes are the same, since the id names them, but that folder may be gone, so it is loaded anew.
    """
    engine.loaded = await engine.client.models()
    if adapter in engine.loaded and engine.loaded[adapter].get("root") != folder:
        await engine.client.unload(adapter)
        engine.loaded.pop(adapter)
    if adapter in engine.loaded:
        return
    try:
        await engine.client.load(adapter, folder)
    except EngineRefused:
        engine.loaded = await engine.client.models()
        if engine.loaded.get(adapter, {}).get("root") != folder:
            raise
    engine.loaded[adapter] = {"id": adapter, "root": folder}


class Keeper:
    """Brings engines and registry together, for ever."""

    def __init__(
        self, pool: Pool, snapshot: Snapshot, registry: Registry, settings: GatewaySettings, metrics: Metrics
    ) -> None:
        self._pool, self._snapshot, self._registry = pool, snapshot, registry
        self._settings, self._metrics = settings, metrics
        self._base: Base | None = None
        self._fit: dict[str, Manifest] = {}
        self._unfit: set[str] = set()
        self._waits: dict[tuple[str, str], tuple[int, float]] = {}  # engine, adapter → tries, next try
        self._seen: dict[str, float] = {}
        self._reported_at = 0.0
        self._reported: dict[str, list[str]] = {}
        self.wake = asyncio.Event()
        pool.changed = self.wake.set
        snapshot.listeners.append(self._table_changed)

    async def run(self) -> None:
        """Settle whenever something changed, and once a second."""
        self._base = await asyncio.to_thread(self._read_base)
        while True:
            try:
                async with asyncio.timeout(1.0):
                    await self.wake.wait()
            except TimeoutError:
                pass
            self.wake.clear()
            await self.settle()

    async def settle(self) -> None:
        """One round over all engines that are up, side by side."""
        want = wanted(self._snapshot.table, self._settings.adapter_slots - 1)
        for adapter in want:
            self._seen.setdefault(adapter, time.monotonic())
        await asyncio.gather(*(self._settle(engine, want) for engine in self._pool.engines if engine.up))
        await self._report()

    async def _settle(self, engine: Engine, want: list[str]) -> None:
        try:
            await self._retire(engine, want)
            for adapter in want:
                if adapter not in engine.ready and adapter not in self._unfit and self._due(engine, adapter):
                    await self._make_ready(engine, self._snapshot.table.adapters[adapter])
        except EngineError as error:
            logger.info("%s: %s", engine.name, error)

    async def _retire(self, engine: Engine, want: list[str]) -> None:
        """No new traffic to what is not wanted; its name is unloaded when its last chat is over."""
        ours = engine.ready | (engine.loaded.keys() & self._snapshot.table.adapters.keys())
        for adapter in sorted(ours - set(want)):
            self._pool.set_ready(engine, adapter, False)
            if not engine.in_flight[adapter] and adapter in engine.loaded:
                await engine.client.unload(adapter)
                engine.loaded.pop(adapter, None)
                logger.info("%s: %s is unloaded", engine.name, adapter)

    async def _make_ready(self, engine: Engine, record: AdapterRecord) -> None:
        try:
            manifest = await self._verified(record)
            await load_from(engine, record.id, seen_by_engines(self._settings, record.id))
            await prove(
                engine.client,
                record.id,
                self._pool.base_name,
                manifest.probes,
                self._settings.probe_tolerance_nats,
            )
        except UnfitAdapter as error:
            await self._reject(record, str(error))
            return
        except EngineMismatch as error:
            logger.warning("%s is not used for %s: %s", engine.name, record.id, error)
            self._later(engine, record.id)
            return
        except EngineError as error:
            tries = self._later(engine, record.id)
            logger.warning("%s: %s could not be loaded: %s", engine.name, record.id, error)
            if isinstance(error, EngineRefused) and tries >= LOADS and error.answered != 503:
                await self._reject(record, f"{engine.name} refuses it: {error}")
            return
        self._waits.pop((engine.name, record.id), None)
        self._pool.set_ready(engine, record.id, True)
        self._metrics.swaps.labels("ready").inc()
        self._metrics.swap_duration.observe(time.monotonic() - self._seen[record.id])
        logger.info("%s: %s is ready", engine.name, record.id)

    async def _verified(self, record: AdapterRecord) -> Manifest:
        if record.id not in self._fit:
            root, base = self._settings.adapters_dir, self._base or Base()
            self._fit[record.id], _ = await asyncio.to_thread(
                verify, root, record.id, base, rank_cap=self._settings.adapter_rank_cap
            )
        return self._fit[record.id]

    async def _reject(self, record: AdapterRecord, reason: str) -> None:
        """Never to be served. What is live is not changed here: its alias falls back by itself."""
        self._unfit.add(record.id)
        self._metrics.swaps.labels("rejected").inc()
        logger.error("%s is not fit to be served: %s", record.id, reason)
        if record.state in {"candidate", "canary"}:
            try:
                await asyncio.to_thread(self._registry.transition, record.id, "rejected", reason)
            except (InvalidTransition, UnknownRecord, StoreUnavailable) as error:
                logger.warning("%s could not be marked rejected: %s", record.id, error)

    def _folder(self, adapter: str) -> Path:
        return self._settings.adapters_dir / adapter

    def _due(self, engine: Engine, adapter: str) -> bool:
        return time.monotonic() >= self._waits.get((engine.name, adapter), (0, 0.0))[1]

    def _later(self, engine: Engine, adapter: str) -> int:
        tries = self._waits.get((engine.name, adapter), (0, 0.0))[0] + 1
        pause = BACKOFF_SECONDS[min(tries, len(BACKOFF_SECONDS)) - 1]
        self._waits[engine.name, adapter] = (tries, time.monotonic() + pause)
        self._metrics.swaps.labels("retried").inc()
        return tries

    async def _report(self) -> None:
        ready = {engine.name: sorted(engine.ready) for engine in self._pool.engines if engine.up}
        if ready == self._reported and time.monotonic() - self._reported_at < REPORT_SECONDS:
            return
        try:
            for name, adapters in ready.items():
                await asyncio.to_thread(self._registry.report_engine, name, adapters, REPORT_LIFE)
        except StoreUnavailable:
            return
        self._reported, self._reported_at = ready, time.monotonic()

    def _read_base(self) -> Base:
        """Fingerprint and shapes of the base, where this machine holds it."""
        model = Path(self._settings.model_path)
        if not model.is_dir():
            logger.warning("the base %s is not on this machine: its shapes cannot be checked", model)
            return Base("" if model.is_absolute() else fingerprint(str(model)))
        return Base(fingerprint(str(model)), base_shapes(model))

    def _table_changed(self, before: RouteTable, after: RouteTable) -> None:
        """Series of adapters that are long gone are dropped."""
        recent = set(sorted(after.adapters, reverse=True)[:ADAPTERS_WITH_SERIES])
        self._metrics.forget_adapters((before.adapters.keys() | after.adapters.keys()) - recent)
        self.wake.set()
