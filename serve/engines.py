"""The pool of engines: which are up, what is ready on each, and which one answers next."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from serve.breaker import Breaker
from serve.engine_client import EngineClient
from serve.errors import EngineError
from serve.metrics import Metrics
from serve.pulse import Pulse

logger = logging.getLogger(__name__)
BASE = "base"  # how Heed names the base model, whatever the engine calls it
LISTED_EVERY = 4  # checks of an engine that is up: then its adapters are looked at, else its health alone
MISSES = 2  # failed checks in a row after which an engine is down
SILENT_SECONDS = 5.0  # a chat that heard nothing for so long from an engine that is down goes on elsewhere
WAIT_SECONDS = 0.05  # between looks for an engine that can take over
SETTLE_SECONDS = 5.0  # how long an engine that came up gets no chats while its adapters are being loaded
BUSIER = 1.25  # how many times the mean load an engine may have and still be sent a prompt it knows


@dataclass(eq=False, slots=True)
class Engine:
    """What the gateway knows of one engine."""

    name: str
    client: EngineClient
    up: bool = False
    misses: int = 0
    checks: int = 0
    loaded: dict[str, dict[str, Any]] = field(default_factory=dict)  # what /v1/models listed last
    ready: set[str] = field(default_factory=set)  # adapters loaded and proved by this gateway
    used: dict[str, float] = field(default_factory=dict)  # adapter → Unix seconds of its newest chat
    in_flight: Counter[str] = field(default_factory=Counter)  # chats by adapter, base included
    load: int = 0  # their number
    draining: bool = False  # operators want no new chats on it; those it has end as they may
    leaving: bool = False  # its address is gone from its name: so too, and then it is gone
    settled: bool = True  # since it came up, its adapters were seen to
    up_at: float = 0.0  # monotonic seconds
    breaker: Breaker = field(default_factory=Breaker)
    pulse: Pulse = field(default_factory=Pulse)

    @property
    def open(self) -> bool:
        """Whether new chats may be sent to it."""
        now = time.monotonic()
        settled = self.settled or now - self.up_at > SETTLE_SECONDS
        return self.up and settled and not (self.draining or self.leaving) and self.breaker.allows(now)

    def serves(self, adapter: str) -> bool:
        """Whether a chat on the adapter may be sent to it."""
        return self.open and (adapter == BASE or adapter in self.ready)

    def awaited(self, adapter: str) -> bool:
        """Whether it will serve the adapter once that is loaded and proved there."""
        here = self.up and not (self.draining or self.leaving)
        return here and not (self.settled and adapter in self.ready)

    def hold(self, adapter: str) -> Callable[[], None]:
        """Count a chat on the adapter, so that it is not unloaded under it; returns what ends it, once."""
        self.in_flight[adapter] += 1
        self.load += 1
        self.used[adapter] = time.time()
        held = True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                self.load -= 1
                self.in_flight[adapter] -= 1
                if not self.in_flight[adapter]:
                    del self.in_flight[adapter]

        return release


class Pool:
    """All engines of one gateway."""

    def __init__(
        self, engines: list[Engine], metrics: Metrics, base_name: str, engine_chats: int = 0
    ) -> None:
        self.engines: list[Engine] = []
        self.base_name = base_name
        self._most_each = (
            engine_chats or math.inf
        )  # chats an engine works on at once; beyond it they wait there
        self._metrics = metrics
        self.changed: Callable[[], None] = lambda: None  # called when what is up or ready changed
        for engine in engines:
            self.add(engine)

    @property
    def any_up(self) -> bool:
        """Whether some engine takes chats."""
        return any(engine.open for engine in self.engines)

    @property
    def several(self) -> bool:
        """Whether another engine could go on where one broke off."""
        return len(self.engines) > 1

    def choose(
        self, adapter: str, without: frozenset[str] = frozenset(), prefix: bytes = b""
    ) -> Engine | None:
        """An engine that has the adapter ready; None when there is none.

        The same ``prefix`` goes to the same engine, whose cache knows it, while that one has at most BUSIER times
        the mean load and no more chats than it works on at once: rendezvous hashing with bounded loads (Mirrokni et
        al. 2018). Without one, or when all are full, the least busy.
        """
        able = [engine for engine in self.engines if engine.serves(adapter) and engine.name not in without]
        if len(able) < 2 or not prefix:
            return min(able, key=lambda engine: engine.load, default=None)
        most = math.ceil(BUSIER * (sum(engine.load for engine in able) + 1) / len(able))
        free = [engine for engine in able if engine.load < min(most, self._most_each)]
        if not free:
            return min(able, key=lambda engine: engine.load)
        return max(free, key=lambda engine: blake2b(prefix, key=engine.name.encode()[:64]).digest())

    async def wait_for(
        self,
        adapter: str,
        without: frozenset[str],
        prefix: bytes,
        until: float,
        left: Callable[[], bool] = lambda: False,
    ) -> Engine | None:
        """As ``choose``; waits for such an engine up to ``until`` on the monotonic clock, or until nobody wants it."""
        while True:
            engine = self.choose(adapter, without, prefix)
            if engine is not None or time.monotonic() >= until or left():
                return engine
            await asyncio.sleep(WAIT_SECONDS)

    def anywhere(self, adapter: str, without: frozenset[str] = frozenset()) -> bool:
        """Whether some engine can answer with the adapter now."""
        return any(engine.serves(adapter) for engine in self.engines if engine.name not in without)

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
        self.failed(engine)
        if engine.up:
            self._mark(engine, False)

    def failed(self, engine: Engine) -> None:
        """A chat failed by the engine's fault."""
        was_open = engine.breaker.open
        engine.breaker.failed(time.monotonic())
        if engine.breaker.open and not was_open:
            logger.warning("%s fails chats and is left alone for a while", engine.name)

    def drain(self, names: frozenset[str]) -> None:
        """Operators want no new chats on these, and on the others again."""
        for engine in self.engines:
            engine.draining = engine.name in names
        self.changed()

    def add(self, engine: Engine) -> None:
        """One more engine; it gets chats once it is healthy and settled."""
        self.engines.append(engine)
        self._metrics.engine_up.labels(engine.name).set(0)

    def remove(self, engine: Engine) -> None:
        """An engine that nobody asks any more."""
        self.engines.remove(engine)
        engine.client.close()
        self._metrics.forget_engine(engine.name)

    async def check(self, engine: Engine) -> None:
        """One health check. An adapter the engine no longer lists was lost in a restart: it is not ready."""
        ready = set(engine.ready)  # what becomes ready while the list is under way is not in it
        listed: dict[str, dict[str, Any]] | None = None
        engine.checks += 1
        with contextlib.suppress(EngineError):
            if engine.pulse.hangs:
                await self._revive(engine)
            if engine.up and engine.checks % LISTED_EVERY:
                await engine.client.healthy()
                listed = engine.loaded
            else:
                listed = await engine.client.models()
            if engine.up and await self._hangs(engine):
                listed = None
        if engine not in self.engines:
            return  # it left meanwhile
        if listed is None:
            self._missed(engine)
            return
        engine.misses = 0
        if listed is engine.loaded:
            return
        engine.loaded = listed
        for adapter in ready - listed.keys():
            logger.warning("%s no longer has %s: it will be loaded again", engine.name, adapter)
            self.set_ready(engine, adapter, False)
        if not engine.up:
            self._mark(engine, True)

    async def _hangs(self, engine: Engine) -> bool:
        """Whether the core of an engine that is healthy by its own word hangs, while another engine could answer."""
        silence = engine.client.silence()
        if not engine.pulse.doubtful(silence):
            return False
        stopped = engine.pulse.stopped(await engine.client.counts(), silence, time.monotonic())
        if not stopped or not any(one.open for one in self.engines if one is not engine):
            return False
        logger.error("%s is healthy by its own word, and has done nothing for %.0f s", engine.name, silence)
        engine.pulse.hung(silence, time.monotonic())
        engine.misses = MISSES
        return True

    async def _revive(self, engine: Engine) -> None:
        """Raises EngineError while the core answers nothing."""
        try:
            await engine.client.healthy()
        except EngineError:
            engine.pulse.restarted()
            raise
        await engine.client.answers(self.base_name)
        engine.pulse.answered(time.monotonic())

    def _missed(self, engine: Engine) -> None:
        engine.misses += 1
        if engine.misses >= MISSES:
            if engine.up:
                self._mark(engine, False)
            engine.client.break_silent(SILENT_SECONDS)

    async def check_all(self) -> None:
        """One check of every engine, side by side."""
        await asyncio.gather(*(self.check(engine) for engine in self.engines))

    async def settle(self) -> None:
        """Wait until every engine that is up may be sent chats; SETTLE_SECONDS at most."""
        until = time.monotonic() + SETTLE_SECONDS
        while any(engine.up and not engine.settled for engine in self.engines):
            if time.monotonic() > until:
                return
            await asyncio.sleep(WAIT_SECONDS / 5)

    async def watch(self, seconds: float) -> None:
        """Check every engine for ever, each on its own: one that does not answer holds up no other."""
        checks: dict[Engine, asyncio.Task[None]] = {}

        async def one(engine: Engine) -> None:
            while engine in self.engines:
                await self.check(engine)
                await asyncio.sleep(seconds)

        async with asyncio.TaskGroup() as group:
            while True:
                checks = {engine: task for engine, task in checks.items() if not task.done()}
                for engine in self.engines:
                    if engine not in checks:
                        checks[engine] = group.create_task(one(engine))
                await asyncio.sleep(seconds)

    def _mark(self, engine: Engine, up: bool) -> None:
        engine.up = up
        if up:
            engine.settled, engine.up_at = False, time.monotonic()
        self._metrics.engine_up.labels(engine.name).set(int(up))
        for adapter in engine.ready:  # what is down has nothing ready
            self._metrics.adapter_ready.labels(engine.name, adapter).set(int(up))
        logger.log(logging.INFO if up else logging.WARNING, "%s is %s", engine.name, "up" if up else "down")
        self.changed()
