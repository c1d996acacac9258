"""The shared buckets and holds in process: the twin of ``quotas.RedisQuotas``, by the same rules."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from feedback.protocols import Hold, Settled, Use
from feedback.quotas import GATEWAY_SECONDS


class MemoryQuotas:
    """See ``protocols.Quotas``. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}  # level, at
        self._told: dict[str, dict[str, tuple[int, float]]] = {}  # holder → gateway → chats, at

    def settle(
        self, gateway: str, in_flight: int, uses: Sequence[Use], holds: Sequence[Hold] = ()
    ) -> Settled:
        with self._lock:
            now = self._clock()
            elsewhere = self._others("", gateway, in_flight, now)
            levels = tuple(self._take(use, now) for use in uses)
            held = tuple(self._others(hold.holder, gateway, hold.chats, now) for hold in holds)
            return Settled(levels, elsewhere, held)

    def _others(self, holder: str, gateway: str, chats: int, now: float) -> int:
        """The chats of the holder, "" for anybody's, in the other gateways; notes those of this one."""
        told = self._told.setdefault(holder, {})
        told[gateway] = chats, now
        for name in [name for name, (_, at) in told.items() if now - at > GATEWAY_SECONDS]:
            del told[name]
        return sum(there for name, (there, _) in told.items() if name != gateway)

    def _take(self, use: Use, now: float) -> float:
        level, at = self._buckets.get(use.bucket, (use.burst, now))
        level = min(use.burst, level + (now - at) * use.rate) - use.used
        if use.used:
            self._buckets[use.bucket] = level, now
        return level
