"""Loads adapters on engines and unloads them, and never more than there are slots.

What an engine lists it holds in memory, and it reads files at no other time than when it is told to load: then
nobody who deletes a folder can make it read what is gone, of which vLLM's engine dies.

An engine may hold what no registry knows: training's rollouts have an adapter of their own there for a while. Such a
stranger has its place, and so much less is wanted on the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Collection, Sequence

from serve.adapter_slots import first_to_go
from serve.adapter_uses import Uses
from serve.engines import Engine, Pool
from serve.errors import EngineError, EngineRefused
from serve.routing import RouteTable
from serve.settings import GatewaySettings

logger = logging.getLogger(__name__)
TOUCH_SECONDS = 2.0  # the longest a load waits for idle adapters to be used once
TOUCH = ([1], [1])  # a prompt and a completion of one token each


async def load_from(engine: Engine, adapter: str, folder: str) -> None:
    """Have the engine hold the adapter from this folder; nothing happens when it does. Another gateway may
    be loading the same at this moment. A name loaded from elsewhere is left of a former life of the engine:
    the bytes are the same, since the id names them, but that folder may be gone, so it is loaded anew.
    """
    if adapter in engine.loaded and engine.loaded[adapter].get("root") != folder:
        await unload(engine, adapter)
    if adapter in engine.loaded:
        return
    try:
        await engine.client.load(adapter, folder)
    except EngineRefused:
        engine.loaded = await engine.client.models()
        if engine.loaded.get(adapter, {}).get("root") != folder:
            raise
    engine.loaded[adapter] = {"id": adapter, "root": folder, "parent": "base"}


async def unload(engine: Engine, adapter: str) -> None:
    """Have the engine forget the name; chats it has begun go on. Another gateway may have been first."""
    try:
        await engine.client.unload(adapter)
    except EngineRefused as error:
        if error.answered not in {400, 404}:
            raise
    engine.loaded.pop(adapter, None)
    logger.info("%s: %s is unloaded", engine.name, adapter)


def held(engine: Engine) -> set[str]:
    """The adapters the engine lists, whoever loaded them."""
    return {name for name, card in engine.loaded.items() if card.get("parent")}


def strangers(engine: Engine, table: RouteTable) -> set[str]:
    """Those of them that no gateway loads."""
    return held(engine) - table.adapters.keys()


class Slots:
    """The places for adapters on the engines of a pool."""

    def __init__(self, pool: Pool, settings: GatewaySettings, uses: Uses) -> None:
        self._pool, self._settings, self._uses = pool, settings, uses
        self.places = settings.adapter_slots - 1  # one is left free for the moment of a change
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._in_memory: dict[str, int] = {}  # engine → adapters it may have in memory, listed or not

    async def load(self, engine: Engine, adapter: str, table: RouteTable, want: Sequence[str]) -> bool:
        """Load the adapter, verified by the caller, in the place of the least recently used one where none is
        free; ``want`` is what else should stay, most needed first. False when every place is wanted or in use. Raises
        EngineError.
        """
        folder = str(self._settings.adapters_seen_at / adapter)
        async with self._turns[engine.name]:
            engine.loaded = await engine.client.models()
            self.look_at(engine, table)
            if engine.loaded.get(adapter, {}).get("root") == folder:
                return True
            if not await self._make_place(engine, adapter, table, want):
                return False
            await self._touch(engine)
            await load_from(engine, adapter, folder)
            self._in_memory[engine.name] += 1
            return True

    async def drop(self, engine: Engine, adapter: str, *, at_once: bool = False) -> None:
        """No new chats on it; its name is unloaded when no gateway has a chat on it, or ``at_once``."""
        self._pool.set_ready(engine, adapter, False)
        if adapter in engine.loaded and (at_once or adapter not in self._uses.busy(self._pool.engines)):
            async with self._turns[engine.name]:
                await unload(engine, adapter)

    def look_at(self, engine: Engine, table: RouteTable) -> None:
        """Whoever loads strangers fills the engine's memory unseen: it counts as full."""
        if strangers(engine, table):
            self._in_memory[engine.name] = self._settings.adapter_slots

    def forget(self, names: Collection[str]) -> None:
        """Forget all engines but those of these names."""
        for gone in self._in_memory.keys() - set(names):
            self._in_memory.pop(gone)
            self._turns.pop(gone, None)

    async def _make_place(self, engine: Engine, adapter: str, table: RouteTable, want: Sequence[str]) -> bool:
        want = want[: max(0, self.places - len(strangers(engine, table)))]
        if len(held(engine) - {adapter}) < self.places:
            return True
        await self._uses.share()
        while len(others := held(engine) - {adapter}) >= self.places:
            self._uses.note_chats(self._pool.engines)
            busy = self._uses.busy(self._pool.engines)
            victim = first_to_go(table, others, want, self._uses.last, busy) if self._uses.shared else None
            if victim is None:
                return False
            self._pool.set_ready(engine, victim, False)
            await unload(engine, victim)
        return True

    async def _touch(self, engine: Engine) -> None:
        """Use once what is listed and proved, so that what the engine drops from its memory next is something
        unlisted.
        """
        listed = held(engine)
        known = self._in_memory.setdefault(engine.name, self._settings.adapter_slots if listed else 0)
        if not listed:
            known = self._in_memory[engine.name] = 0  # it was started anew
        if known < self._settings.adapter_slots:
            return
        with contextlib.suppress(EngineError, TimeoutError):
            async with asyncio.timeout(TOUCH_SECONDS):
                await asyncio.gather(
                    *(engine.client.log_probabilities(one, *TOUCH) for one in listed & engine.ready)
                )
