"""When adapters were last asked for, by this gateway and by the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from feedback.errors import StoreUnavailable
from feedback.protocols import Registry
from serve.adapter_slots import ASKED_SECONDS
from serve.engines import BASE, Engine

BUSY_SECONDS = 2.0  # what another was asked for within is in use there; longer than they take to tell


class Uses:
    """Unix seconds by adapter. ``shared``: whether the other gateways were heard when last asked."""

    def __init__(self, registry: Registry) -> None:
        self.shared = False
        self._registry = registry
        self._mine: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        self._others: dict[str, float] = {}
        self._awaited: dict[str, int] = {}  # adapter → chats that wait for it, the first that came first

    @property
    def last(self) -> dict[str, float]:
        """When each was last asked for, by whomever."""
        return {
            adapter: max(self._mine.get(adapter, 0.0), self._heard.get(adapter, 0.0))
            for adapter in self._mine.keys() | self._heard.keys()
        }

    @property
    def asked(self) -> list[str]:
        """What this gateway needs: what chats wait for, in their order, and then what it was asked for lately."""
        since = time.time() - ASKED_SECONDS
        lately = sorted(self._mine, key=lambda adapter: -self._mine[adapter])
        return [*self._awaited, *(adapter for adapter in lately if self._mine[adapter] > since)]

    def busy(self, engines: Iterable[Engine]) -> set[str]:
        """What must stay: chats are on it or wait for it here, or another gateway was asked for it just now."""
        since = time.time() - BUSY_SECONDS
        elsewhere = {adapter for adapter, seconds in self._others.items() if seconds > since}
        return elsewhere.union(self._awaited, *(engine.in_flight for engine in engines))

    def waiting(self, adapter: str, chats: int) -> None:
        """So many more chats wait for it."""
        self.note(adapter, time.time())
        self._awaited[adapter] = self._awaited.get(adapter, 0) + chats
        if not self._awaited[adapter]:
            del self._awaited[adapter]

    def note(self, adapter: str, seconds: float) -> None:
        """It was asked for then, here."""
        if adapter != BASE:
            self._mine[adapter] = max(seconds, self._mine.get(adapter, 0.0))

    def note_chats(self, engines: Iterable[Engine]) -> None:
        """What chats were begun on, and what they are on now."""
        now = time.time()
        for engine in engines:
            for adapter, seconds in engine.used.items():
                self.note(adapter, seconds)
            for adapter in engine.in_flight:
                self.note(adapter, now)

    async def share(self) -> None:
        """Tell what is new here, hear what is new elsewhere; without the store each gateway goes by its own."""
        mine = dict(self._mine)
        news = {one: at for one, at in mine.items() if at > self._heard.get(one, 0.0)}
        try:
            self._heard = await asyncio.to_thread(self._registry.uses, news)
        except StoreUnavailable:
            self.shared = False
            return
        self.shared = True
        for adapter, seconds in self._heard.items():
            if seconds > mine.get(adapter, 0.0):
                self._others[adapter] = seconds
        kept = self._heard.keys() | self._awaited.keys()
        self._mine = {
            adapter: at for adapter, at in self._mine.items() if adapter in kept or at > mine.get(adapter, 0)
        }
        self._others = {adapter: at for adapter, at in self._others.items() if adapter in kept}
