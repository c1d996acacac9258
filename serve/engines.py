"""The pool of engines: which are up, what is ready on each, and which one answers next."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from serve.engine_client import EngineClient
from serve.errors import EngineError
from serve.metrics import Metrics

logger = logging.getLogger(__name__)
BASE = "base"  # how Heed names the base model, whatever the engine calls it
MISSES = 2  # failed checks in a row after which an engine is down


@dataclass(eq=False, slots=True)
class Engine:
    """What the gateway knows of one engine."""

    name: str
    client: EngineClient
    up: bool = False
    misses: int = 0
    loaded: dict[str, dict[str, Any]] = field(default_factory=dict)  # what /v1/models listed last
    ready: set[str] = field(default_factory=set)  # adapters loaded and proved by this gateway
    used: dict[str, float] = field(default_factory=dict)  # adapter → Unix seconds of its newest chat
    settled: bool = True  # since it came up, its adapters were seen to
    in_flight: Counter[str] = field(default_factory=Counter)  # chats by adapter, base included

    @property
    def load(self) -> int:
        return self.in_flight.total()

    def serves(self, adapter: str) -> bool:
        return self.up and (adapter == BASE or adapter in self.ready)

    @contextmanager
    def holding(self, adapter: str) -> Iterator[None]:
        """Count a chat on the adapter, so that it is not unloaded under it."""
        self.in_flight[adapter] += 1
        self.used[adapter] = time.time()
        try:
            yield
        finally:
            self.in_flight[adapter] -= 1
            if not self.in_flight[adapter]:
                del self.in_flight[adapter]


class Pool:
    """All engines of one gateway."""

    def __init__(self, engines: list[Engine], metrics: Metrics, base_name: str) -> None:
        self.engines = engines
        self.base_name = base_name
        self._metrics = metrics
        self.changed: Callable[[], None] = lambda: None  # called when what is up or ready changed
        for engine in engines:
            metrics.engine_up.labels(engine.name).set(0)

    @property
    def any_up(self) -> bool:
        return any(engine.up for engine in self.engines)

    def choose(self, adapter: str, without: frozenset[str] = frozenset()) -> Engine | None:
        """The least busy engine that has the adapter ready; None when there is none."""
        able = [engine for engine in self.engines if engine.serves(adapter) and engine.name not in without]
        return min(able, key=lambda engine: engine.load, default=None)

    def anywhere(self, adapter: str) -> bool:
        """Whether some engine can answer with the adapter now."""
        return any(engine.serves(adapter) for engine in self.engines)

    def served_name(self, adapter: str) -> str:
        """The model name to ask the engine for."""
        return self.base_name if adapter == BASE else adapter

    def set_ready(self, engine: Engine, adapter: str, ready: bool) -> None:
        """Record that the adapter is proved on the engine, or no longer to be used there."""
        if ready == (adapter in engine.ready):
            return
        (engine.ready.add if ready else engine.ready.discard)(adapter)
        self._metrics.adapter_ready.labels(engine.name, adapter).set(int(ready))
        self.changed()

    def lost(self, engine: Engine) -> None:
        """A connection failed: no more traffic until the next good check."""
        if engine.up:
            self._mark(engine, False)

    async def check(self, engine: Engine) -> None:
        """One health check. An adapter the engine no longer lists was lost in a restart: it is not ready."""
        ready = set(engine.ready)  # what becomes ready while the list is under way is not in it
        try:
            listed = await engine.client.models()
        except EngineError:
            engine.misses += 1
            if engine.up and engine.misses >= MISSES:
                self._mark(engine, False)
            return
        engine.misses = 0
        engine.loaded = listed
        for adapter in ready - listed.keys():
            logger.warning("%s no longer has %s: it will be loaded again", engine.name, adapter)
            self.set_ready(engine, adapter, False)
        if not engine.up:
            self._mark(engine, True)

    async def check_all(self) -> None:
        """One check of every engine, side by side."""
        await asyncio.gather(*(self.check(engine) for engine in self.engines))

    async def watch(self, seconds: float) -> None:
        """Check every engine for ever, each on its own."""

        async def one(engine: Engine) -> None:
            while True:
                await self.check(engine)
                await asyncio.sleep(seconds)

        async with asyncio.TaskGroup() as group:
            for engine in self.engines:
                group.create_task(one(engine))

    def _mark(self, engine: Engine, up: bool) -> None:
        engine.up = up
        self._metrics.engine_up.labels(engine.name).set(int(up))
        logger.log(logging.INFO if up else logging.WARNING, "%s is %s", engine.name, "up" if up else "down")
        self.changed()
