"""Keeps each engine's adapters as the registry wants them: verify, load, probe, report; drain, unload.

An adapter gets traffic on an engine only after this gateway has proved it there. What has no place is brought when
somebody asks for it by name.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from feedback.errors import InvalidTransition, StoreUnavailable, UnknownRecord
from feedback.manifest import fingerprint
from feedback.protocols import AdapterRecord, Registry
from serve.adapter_files import sweep
from serve.adapter_loading import Slots, held
from serve.adapter_slots import leaving, servable, wanted
from serve.adapter_uses import Uses
from serve.engines import BASE, Engine, Pool
from serve.errors import EngineError, EngineRefused, NotFound
from serve.fitness import Fitness
from serve.metrics import Metrics
from serve.plain_files import MissingFolder, UnfitAdapter
from serve.probe import EngineMismatch, Told, prove
from serve.routing import FALLBACK, LIVE, PINNED, Plan, RouteTable
from serve.settings import GatewaySettings
from serve.snapshot import Snapshot
from serve.tensor_file import base_shapes
from serve.verification import Base

logger = logging.getLogger(__name__)
REPORT_SECONDS, REPORT_LIFE = 2.0, 10.0
SHARE_SECONDS = 0.7  # between talks with other gateways about what is asked for
WATCH_SECONDS = 2.0  # between looks whether files changed
SWEEP_SECONDS = 30.0  # between looks for files to delete
ARM_WAIT_SECONDS = 1.0  # longest a chat waits for the adapter of its arm
WAIT_SECONDS = 0.02  # between looks of a chat for its adapter
AT_ONCE = 4  # adapters made ready side by side on one engine, whose probes then share batches
ADAPTERS_WITH_SERIES = 64  # the newest; bounds the number of metric series
LOADS = 3  # refusals by a healthy engine before an adapter is rejected
BACKOFF_SECONDS = (0.5, 2.0, 10.0, 30.0)
NO_PLACE_SECONDS = 0.2


class Keeper:
    """Brings engines and registry together, for ever."""

    def __init__(
        self, pool: Pool, snapshot: Snapshot, registry: Registry, settings: GatewaySettings, metrics: Metrics
    ) -> None:
        self._pool, self._snapshot, self._registry = pool, snapshot, registry
        self._settings, self._metrics = settings, metrics
        self._uses = Uses(registry)
        self._fitness = Fitness(settings.adapters_dir, settings.adapter_rank_cap)
        self.slots = Slots(pool, settings, self._uses)
        self._unfit: dict[str, str] = {}  # adapter → why
        self._waits: dict[tuple[str, str], tuple[int, float]] = {}  # engine, adapter → tries, next try
        self._missed: dict[tuple[str, str], float] = {}  # engine, adapter → since when it is wanted there
        self._told: dict[str, Told] = {}  # engine → what its base answers to probes
        self._proved: set[str] = set()  # adapters that were ready somewhere: a live one has been served
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._done_at: dict[str, float] = {}
        self._reported: dict[str, list[str]] = {}
        self.wake = asyncio.Event()
        pool.changed = self.wake.set
        snapshot.listeners.append(self._table_changed)

    async def run(self) -> None:
        """Look whenever something changed, and once a second."""
        self._fitness.base = await asyncio.to_thread(self._read_base)
        try:
            while True:
                try:
                    async with asyncio.timeout(1.0):
                        await self.wake.wait()
                except TimeoutError:
                    pass
                self.wake.clear()
                await self._look()
        finally:
            for task in self._busy.values():
                task.cancel()

    async def bring(self, plan: Plan, without: frozenset[str] = frozenset()) -> None:
        """Wait until some engine but those ``without`` has the plan's adapter ready: one asked for by name, an arm
        without a place, or a live one that its engines have lost. One that was made live just now and is nowhere yet
        is not waited for: what was live before answers. At most HEED_ADAPTER_WAIT_SECONDS (an arm that no engine
        broke under, a second), and not when no engine can be expected to. Raises NotFound for one asked for by name
        that can never be served.
        """
        adapter, anywhere = plan.adapter, self._pool.anywhere
        new = plan.arm in {LIVE, FALLBACK} and adapter not in self._proved
        if new or adapter == BASE or anywhere(adapter, without):
            return
        self._uses.waiting(adapter, +1)
        self.wake.set()
        longest = self._settings.adapter_wait_seconds
        patient = plan.arm in {PINNED, LIVE} or bool(without)
        until = time.monotonic() + (longest if patient else min(longest, ARM_WAIT_SECONDS))
        try:
            while not anywhere(adapter, without):
                if not self._coming(adapter, without) or time.monotonic() > until:
                    break
                await asyncio.sleep(WAIT_SECONDS)
        finally:
            self._uses.waiting(adapter, -1)
        if plan.arm == PINNED and not anywhere(adapter) and (why := self._never(adapter)):
            raise NotFound(f"{adapter} cannot be served: {why}", param="model", code="model_not_found")

    async def take_in(self, engine: Engine, adapter: str) -> bool:
        """Load what the caller has verified and the registry does not know yet, in the place of what is wanted
        least; False when every place is in use. Raises EngineError.
        """
        want = self._wanted()[: self.slots.places - 1]
        return await self.slots.load(engine, adapter, self._snapshot.table, want)

    def _coming(self, adapter: str, without: frozenset[str]) -> bool:
        """Whether an engine may have it soon: one that takes chats will be asked now, or for the first time."""
        if adapter in self._unfit or not servable(self._snapshot.table.adapters.get(adapter)):
            return False
        able = [one.name for one in self._pool.engines if one.awaited(adapter) and one.name not in without]
        waits = [self._waits.get((name, adapter), (0, 0.0)) for name in able]
        return any(not tries or next_try <= time.monotonic() for tries, next_try in waits)

    def _never(self, adapter: str) -> str | None:
        """Why it will not be served, when that is sure."""
        record = self._snapshot.table.adapters.get(adapter)
        if record is not None and record.state == "rejected":
            return record.reason or "it was rejected"
        if record is not None and record.state == "retired" and not self._folder(adapter).is_dir():
            return "it was retired, and its files are deleted"
        return self._unfit.get(adapter)

    async def _look(self) -> None:
        """One round. Each engine is seen to by itself: one that hangs holds up no other."""
        self._uses.note_chats(self._pool.engines)
        if self._due("share", SHARE_SECONDS):
            await self._uses.share()
        if self._due("watch", WATCH_SECONDS):
            self._forget_engines()
            await self._take_out_changed()
        for engine in self._pool.engines:
            task = self._busy.get(engine.name)
            if engine.up and (task is None or task.done()):
                self._busy[engine.name] = asyncio.create_task(self._settle(engine))
        await self._report()
        if self._settings.adapter_keep_seconds and self._due("sweep", SWEEP_SECONDS):
            await self._sweep()

    async def _settle(self, engine: Engine) -> None:
        """Bring one engine to what is wanted."""
        try:
            if not held(engine):
                self._told[engine.name] = {}  # it may have been started anew
            table, want = self._snapshot.table, self._wanted()
            self.slots.look_at(engine, table)
            unfit = held(engine) & self._unfit.keys()
            for adapter in {*leaving(table, held(engine) | engine.ready, want, self._uses.last), *unfit}:
                await self.slots.drop(engine, adapter)
            while missing := self._missing(engine):
                await asyncio.gather(*(self._make_ready(engine, record) for record in missing[:AT_ONCE]))
            engine.settled = True
        except EngineError as error:
            logger.info("%s: %s", engine.name, error)
        except Exception:
            logger.exception("%s could not be seen to", engine.name)

    def _wanted(self) -> list[str]:
        return wanted(self._snapshot.table, self._uses.last, self._uses.asked, self.slots.places)

    def _missing(self, engine: Engine) -> list[AdapterRecord]:
        """What is wanted on the engine and can be tried now."""
        now, missing = time.monotonic(), []
        want = self._wanted() if engine.up else []
        for key in [one for one in self._missed if one[0] == engine.name and one[1] not in want]:
            del self._missed[key]
        for adapter in want:
            if adapter not in engine.ready and adapter not in self._unfit:
                self._missed.setdefault((engine.name, adapter), now)
                if now >= self._waits.get((engine.name, adapter), (0, 0.0))[1]:
                    missing.append(self._snapshot.table.adapters[adapter])
        return missing

    async def _make_ready(self, engine: Engine, record: AdapterRecord) -> None:
        adapter = record.id
        try:
            if not await self._load(engine, adapter):
                return
        except MissingFolder as error:
            if self._later(engine, adapter) >= LOADS:
                await self._reject(record, str(error), for_good=False)
            return
        except UnfitAdapter as error:
            await self._reject(record, str(error))
            return
        except EngineMismatch as error:
            logger.warning("%s is not used for %s: %s", engine.name, adapter, error)
            self._later(engine, adapter)
            return
        except EngineError as error:
            tries = self._later(engine, adapter)
            logger.warning("%s: %s could not be loaded: %s", engine.name, adapter, error)
            if isinstance(error, EngineRefused) and tries >= LOADS and error.answered != 503:
                await self._reject(record, f"{engine.name} refuses it: {error}")
            return
        self._waits.pop((engine.name, adapter), None)
        since = self._missed.pop((engine.name, adapter), time.monotonic())
        if servable(self._snapshot.table.adapters.get(adapter)):
            self._pool.set_ready(engine, adapter, True)
            self._proved.add(adapter)
        self._metrics.swaps.labels("ready").inc()
        self._metrics.swap_duration.observe(time.monotonic() - since)
        logger.info("%s: %s is ready", engine.name, adapter)

    async def _load(self, engine: Engine, adapter: str) -> bool:
        """Verify, load, see that the files are still those that were verified, prove. False: there is no place."""
        manifest = await asyncio.to_thread(self._fitness.manifest, adapter)
        if not await self.slots.load(engine, adapter, self._snapshot.table, self._wanted()):
            self._waits[engine.name, adapter] = (0, time.monotonic() + NO_PLACE_SECONDS)
            return False
        if not await asyncio.to_thread(self._fitness.unchanged, adapter):
            await self.slots.drop(engine, adapter, at_once=True)
            raise UnfitAdapter(f"{adapter}: its files changed while an engine loaded them")
        await prove(
            engine.client,
            adapter,
            self._pool.base_name,
            manifest.probes,
            self._settings.probe_tolerance_nats,
            self._told.setdefault(engine.name, {}),
        )
        return True

    def _forget_engines(self) -> None:
        """Addresses come and go: what is known of those that went goes too."""
        names = {engine.name for engine in self._pool.engines}
        self._told = {name: told for name, told in self._told.items() if name in names}
        self._busy = {name: task for name, task in self._busy.items() if name in names or not task.done()}
        self._waits = {key: wait for key, wait in self._waits.items() if key[0] in names}
        self._missed = {key: since for key, since in self._missed.items() if key[0] in names}
        self.slots.forget(names)

    async def _take_out_changed(self) -> None:
        """What was proved and then changed on disk is not what was proved."""
        there = {one for engine in self._pool.engines for one in held(engine) | engine.ready}
        for adapter, why in (await asyncio.to_thread(self._fitness.changed, there)).items():
            logger.error("%s is taken out: %s", adapter, why)
            for engine in self._pool.engines:
                try:
                    await self.slots.drop(engine, adapter, at_once=True)
                except EngineError as error:
                    logger.warning("%s: %s could not be unloaded: %s", engine.name, adapter, error)

    async def _reject(self, record: AdapterRecord, reason: str, *, for_good: bool = True) -> None:
        """Not to be served. What is live is not changed here: its alias falls back by itself, and is tried again
        unless ``for_good``.
        """
        if for_good:
            self._unfit[record.id] = reason
        self._metrics.swaps.labels("rejected").inc()
        logger.error("%s is not fit to be served: %s", record.id, reason)
        if record.state in {"candidate", "canary"}:
            try:
                await asyncio.to_thread(self._registry.transition, record.id, "rejected", reason)
            except (InvalidTransition, UnknownRecord, StoreUnavailable) as error:
                logger.warning("%s could not be marked rejected: %s", record.id, error)

    def _folder(self, adapter: str) -> Path:
        return self._settings.adapters_dir / adapter

    def _due(self, what: str, seconds: float) -> bool:
        """Whether it was not done for so long; then it counts as done."""
        now = time.monotonic()
        if now - self._done_at.get(what, -seconds) < seconds:
            return False
        self._done_at[what] = now
        return True

    def _later(self, engine: Engine, adapter: str) -> int:
        tries = self._waits.get((engine.name, adapter), (0, 0.0))[0] + 1
        pause = BACKOFF_SECONDS[min(tries, len(BACKOFF_SECONDS)) - 1]
        self._waits[engine.name, adapter] = (tries, time.monotonic() + pause)
        self._metrics.swaps.labels("retried").inc()
        return tries

    async def _report(self) -> None:
        ready = {engine.name: sorted(engine.ready) for engine in self._pool.engines if engine.up}
        if ready == self._reported and not self._due("report", REPORT_SECONDS):
            return
        try:
            for name, adapters in ready.items():
                await asyncio.to_thread(self._registry.report_engine, name, adapters, REPORT_LIFE)
        except StoreUnavailable:
            return
        self._reported = ready

    async def _sweep(self) -> None:
        listed = {one for engine in self._pool.engines for one in held(engine)}
        keep, table = self._settings.adapter_keep_seconds, self._snapshot.table
        try:
            await asyncio.to_thread(sweep, self._settings.adapters_dir, self._registry, table, listed, keep)
        except OSError as error:
            logger.warning("files of retired adapters could not be deleted: %s", error)

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
