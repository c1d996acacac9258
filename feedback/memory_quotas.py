"""The shared buckets in process: the twin of ``quotas.RedisQuotas``, by the same rules."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from feedback.protocols import Settled, Use
from feedback.quotas import GATEWAY_SECONDS


class MemoryQuotas:
    """See ``protocols.Quotas``. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}  # level, at
        self._gateways: dict[str, tuple[int, float]] = {}  # chats, at

    def settle(self, gateway: str, in_flight: int, uses: Sequence[Use]) -> Settled:
        with self._lock:
            now = self._clock()
            self._gateways[gateway] = in_flight, now
            self._gateways = {
                name: told for name, told in self._gateways.items() if now - told[1] <= GATEWAY_SECONDS
            }
            elsewhere = sum(chats for name, (chats, _) in self._gateways.items() if name != gateway)
            return Settled(tuple(self._take(use, now) for use in uses), elsewhere)

    def _take(self, use: Use, now: float) -> float:
        level, at = self._buckets.get(use.bucket, (use.burst, now))
        level = min(use.burst, level + (now - at) * use.rate) - use.used
        if use.used:
            self._buckets[use.bucket] = level, now
        return level
