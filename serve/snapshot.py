"""Keeps the gateway's picture of the registry fresh: hears of changes, polls its generation, re-reads, swaps.

While the store is away the last picture stays in force. The digests of the access keys are also kept on
disk, so that a gateway that starts without the store does not open its doors for want of knowing the keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, replace
from pathlib import Path

import orjson

from feedback.errors import Conflict, StoreUnavailable
from feedback.protocols import AliasRecord, KeyRecord, Registry
from serve.routing import RouteTable

logger = logging.getLogger(__name__)
CATCH_UP_SECONDS = 2.0  # the longest wait for a look
AGAIN_SECONDS = 0.01  # between looks for what is not there: junk names must not cost the store one each


class Snapshot:
    """The newest RouteTable, and whether the store answered when last asked."""

    def __init__(self, registry: Registry, default_alias: str, keys_file: Path) -> None:
        self._registry = registry
        self._keys_file = keys_file
        self._default_alias = default_alias
        self._read_at = 0.0
        self._reading = asyncio.Lock()  # a read that began earlier must not end later
        self._coming: asyncio.Task[None] | None = None  # a look that has not begun
        self._looked_again = -math.inf
        self.store_up = False
        self.listeners: list[Callable[[RouteTable, RouteTable], None]] = []
        self.table = RouteTable(
            aliases={default_alias: AliasRecord(name=default_alias)}, keys=_cached_keys(keys_file)
        )

    async def refresh(self, *, every_seconds: float = 0.0) -> bool:
        """Re-read when the generation moved, or when the last read is older than ``every_seconds``.
        True when the table was swapped.
        """
        async with self._reading:
            return await self._refreshed(every_seconds)

    async def _refreshed(self, every_seconds: float) -> bool:
        try:
            table = await asyncio.to_thread(self._read_if_new, every_seconds)
        except StoreUnavailable:
            if self.store_up:
                logger.warning("the store is away: going on with what was read last")
            self.store_up = False
            return False
        self.store_up = True
        if table is None:
            return False
        before, self.table = self.table, table
        for listener in self.listeners:
            listener(before, table)
        return True

    async def caught_up(self) -> None:
        """Wait for a look that begins after this call; all who wait by then share it. CATCH_UP_SECONDS at most."""
        if self._coming is None:
            self._coming = asyncio.create_task(self._look())
        await asyncio.wait({self._coming}, timeout=CATCH_UP_SECONDS)

    async def _look(self) -> None:
        async with self._reading:
            self._coming = None
            await self._refreshed(math.inf)

    async def look_again(self) -> None:
        """Before something is said not to be there: another process may have made it a moment ago."""
        if self.store_up and time.monotonic() - self._looked_again > AGAIN_SECONDS:
            self._looked_again = time.monotonic()
            await self.caught_up()

    async def watch(self, pause_seconds: float, every_seconds: float) -> None:
        """Refresh for ever."""
        while True:
            await self.refresh(every_seconds=every_seconds)
            await asyncio.sleep(pause_seconds if self.store_up else max(pause_seconds, 0.5))

    async def listen(self, changes: Callable[[], AsyncIterator[None]] | None, pause_seconds: float) -> None:
        """Refresh at each change that is announced, for ever. ``watch`` sees what this may miss; None: all."""
        if changes is None:
            await asyncio.Event().wait()
            return
        while True:
            with contextlib.suppress(StoreUnavailable):
                async for _ in changes():
                    await self.refresh(every_seconds=math.inf)
            await asyncio.sleep(pause_seconds)

    def _read_if_new(self, every_seconds: float) -> RouteTable | None:
        generation = self._registry.generation()
        stale = time.monotonic() - self._read_at > every_seconds
        if generation == self.table.generation and not stale:
            return None
        table = self._read(generation)
        self._read_at = time.monotonic()
        if replace(table, generation=self.table.generation) == self.table:
            self.table = table
            return None
        if table.keys != self.table.keys:
            _cache_keys(self._keys_file, table)
        return table

    def _read(self, generation: int) -> RouteTable:
        """One full read. ``generation`` was read before it: a change in between is seen at the next look."""
        aliases = self._registry.aliases()
        if not any(alias.name == self._default_alias for alias in aliases):
            with contextlib.suppress(Conflict):  # another process was first: fine
                self._registry.put_alias(AliasRecord(name=self._default_alias))
            aliases = self._registry.aliases()
        experiments, access = self._registry.experiments(), self._registry.keys()
        return RouteTable(
            generation=generation,
            aliases={alias.name: alias for alias in aliases},
            adapters={adapter.id: adapter for adapter in self._registry.adapters()},
            running={one.alias: one for one in experiments if one.status == "running"},
            keys={key.digest: key for key in access if not key.revoked},
            draining=self._registry.draining(),
        )


def _cached_keys(path: Path) -> dict[str, KeyRecord]:
    try:
        rows = orjson.loads(path.read_bytes())
        keys = [KeyRecord(**{**row, "scopes": tuple(row["scopes"])}) for row in rows]
    except FileNotFoundError:
        return {}
    except (orjson.JSONDecodeError, TypeError, KeyError, OSError) as error:
        logger.warning(
            "the cached keys cannot be read (%s): nobody knows them until the store answers", error
        )
        return {"": KeyRecord(id="k-unreadable", digest="", scopes=(), created=0.0)}
    return {key.digest: key for key in keys}


def _cache_keys(path: Path, table: RouteTable) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    unfinished.touch(mode=0o600)
    unfinished.write_bytes(orjson.dumps([asdict(key) for key in table.keys.values()]))
    unfinished.replace(path)
