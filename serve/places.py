"""Places for chats in flight: of the gateway, of the engines, of each key and of each subject.

When places run short the lower priorities are refused first: chats of low keys may fill a share of them, of normal
keys all but a reserve, of high keys all; and a high chat that finds none waits its turn for a moment. Chats of this
process are counted exactly; those that other gateways have
on the same engines are as they were when last told, a tenth of a second ago.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

from feedback.protocols import Priority
from serve.buckets import whole_seconds
from serve.errors import TooMany, Unavailable
from serve.settings import GatewaySettings

MEAN_WEIGHT = 0.05  # of the newest chat in the mean duration
LONGEST_WAIT = 60  # seconds; no place is promised later
FULL_SECONDS = 1.0  # how long an engine that said it is full is believed
TURN_SECONDS = 2.0  # how long a chat of priority high waits for a place before it is refused
TURN_PAUSE = 0.02  # seconds between two looks: places become free here, elsewhere, and as engines come back
TURNS = 64  # chats that wait at once; more are refused at once


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many chats at once, and who may take the last places."""

    gateway: int  # in this process; 0: any
    engine: int  # on each engine that is up, from all gateways; 0: any
    high_reserve: float  # share of the places that only priority high may take
    low_share: float  # share of the places that priority low may fill

    @classmethod
    def of(cls, settings: GatewaySettings) -> Bounds:
        """As the settings say."""
        return cls(
            settings.max_chats_in_flight, settings.engine_chats, settings.high_reserve, settings.low_share
        )


class Places:
    """Who has a place now. A chat that asks for several responses takes as many places."""

    def __init__(
        self, bounds: Bounds, engines_up: Callable[[], int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bounds, self._engines_up, self._clock = bounds, engines_up, clock
        self.in_flight = 0  # responses being made here
        self.elsewhere = 0  # and in the other gateways, as last told
        self._held: dict[str, int] = {}  # by key and by subject
        self._turns: deque[object] = deque()  # who waits, the first first
        self._mean = 1.0  # seconds a chat takes
        self._full, self._full_until = 0, 0.0

    def engine_full(self) -> None:
        """An engine would not take one of the chats: for a moment there may be no more than the others."""
        self._full = max(1, self.in_flight + self.elsewhere - 1)
        self._full_until = self._clock() + FULL_SECONDS

    def held(self, holder: str) -> int:
        """The places of a key or a subject in this process."""
        return self._held.get(holder, 0)

    def check_holder(
        self, holder: str, most: int, count: int, who: str, mend: str, elsewhere: int = 0
    ) -> None:
        """Raises TooMany when the key or subject would hold more than ``most``, with what it has in other
        gateways; 0: any.
        """
        busy = self._held.get(holder, 0) + elsewhere
        if most and busy + count > most:
            raise TooMany(
                f"{who} has {busy} chats in flight and may have {most}: wait for one to end, or raise {mend}",
                code="too_many_chats",
                retry_after=self._wait(count, most),
            )

    def check(self, priority: Priority | None, count: int) -> None:
        """Raises Unavailable when the priority has no such places left. None: there is nobody to be put first,
        so what the engines do not answer at once may wait in them.
        """
        for busy, most, what in self._bounds_of(priority):
            if busy + count > most:
                raise Unavailable(
                    f"every place {what} for priority {priority or 'high'} is taken: try again later",
                    code="at_capacity",
                    retry_after=self._wait(busy + count - most, busy),
                )

    def free(self, priority: Priority | None, count: int) -> bool:
        """Whether such a chat would find its places, and nobody waits for them."""
        return not self._turns and self._fits(priority, count)

    async def turn(self, priority: Priority | None, count: int) -> None:
        """Wait until the places are there and it is this chat's turn, or for TURN_SECONDS."""
        if len(self._turns) >= TURNS:
            return
        me, until = object(), self._clock() + TURN_SECONDS
        self._turns.append(me)
        try:
            while self._turns[0] is not me or not self._fits(priority, count):
                if self._clock() >= until:
                    return
                await asyncio.sleep(TURN_PAUSE)
        finally:
            self._turns.remove(me)

    def taken(self, holders: tuple[str, ...], count: int) -> Taken:
        """Hold the places from now on; asks nothing."""
        return Taken(self, holders, count)

    def add(self, holders: tuple[str, ...], count: int) -> None:
        """So many places more, or less, are held."""
        self.in_flight += count
        for holder in holders:
            held = self._held.get(holder, 0) + count
            if held:
                self._held[holder] = held
            else:
                del self._held[holder]

    def lasted(self, seconds: float) -> None:
        """A chat has ended."""
        self._mean += MEAN_WEIGHT * (seconds - self._mean)

    @property
    def now(self) -> float:
        """By the clock of these places."""
        return self._clock()

    def _fits(self, priority: Priority | None, count: int) -> bool:
        return all(busy + count <= most for busy, most, _ in self._bounds_of(priority))

    def _bounds_of(self, priority: Priority | None) -> Iterator[tuple[int, int, str]]:
        """Places taken, those that the priority may fill, and where."""
        for capacity, busy, what in self._capacities(engines=priority is not None):
            yield busy, self._most(priority, capacity), what

    def _capacities(self, *, engines: bool) -> Iterator[tuple[int, int, str]]:
        """Of the gateway and of the engines: places, those taken, and a name."""
        if self._bounds.gateway:
            yield self._bounds.gateway, self.in_flight, "in the gateway"
        if not engines:
            return
        everywhere = self.in_flight + self.elsewhere
        up = self._engines_up()
        if self._bounds.engine and up:  # with none up the chat itself finds out, and says so
            yield self._bounds.engine * up, everywhere, "on the engines"
        if self._clock() < self._full_until:
            yield self._full, everywhere, "on the engines"

    def _most(self, priority: Priority | None, capacity: int) -> int:
        if priority in ("high", None):
            return capacity
        share = self._bounds.low_share if priority == "low" else 1 - self._bounds.high_reserve
        return max(1, int(share * capacity))

    def _wait(self, missing: int, busy: int) -> int:
        """Seconds until so many of the busy places should be free, at the pace at which chats end now."""
        return min(LONGEST_WAIT, whole_seconds(self._mean * missing / max(1, busy)))


class Taken:
    """Places that one chat holds until ``close``, or to the end of a ``with``."""

    __slots__ = ("_began", "_count", "_holders", "_places")

    def __init__(self, places: Places, holders: tuple[str, ...], count: int) -> None:
        self._places, self._holders, self._count = places, holders, count
        self._began = places.now
        places.add(holders, count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give them back; once."""
        if self._count:
            self._places.add(self._holders, -self._count)
            self._places.lasted(self._places.now - self._began)
            self._count = 0
