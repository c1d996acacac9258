"""Bounds on what one process and one subject may ask for."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from serve.errors import TooMany, Unavailable
from serve.metrics import Metrics

SUBJECTS_KEPT = 50_000  # the longest unseen is forgotten first; its bucket would be full again anyway


class Limits:
    """A cap on chats in flight and a token bucket per subject, both of this process."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        in_flight: int,
        rate: float,
        burst: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = metrics
        self._most, self._now_in_flight = in_flight, 0
        self._rate, self._burst, self._clock = rate, float(burst), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # subject → (tokens, when)

    @contextmanager
    def chat(self) -> Iterator[None]:
        """One place among the chats in flight. Raises Unavailable when all are taken."""
        if self._now_in_flight >= self._most:
            self._metrics.refused.labels("at_capacity").inc()
            raise Unavailable("every place is taken", code="at_capacity", retry_after=1)
        self._now_in_flight += 1
        self._metrics.in_flight.inc()
        try:
            yield
        finally:
            self._now_in_flight -= 1
            self._metrics.in_flight.dec()

    def spend(self, subject: str, cost: float = 1.0) -> None:
        """Take from the subject's bucket. Raises TooMany with the seconds until there is enough again."""
        if not self._rate:
            return
        now = self._clock()
        tokens, when = self._buckets.pop(subject, (self._burst, now))
        tokens = min(self._burst, tokens + (now - when) * self._rate)
        enough = tokens >= cost
        self._buckets[subject] = (tokens - cost if enough else tokens, now)
        if len(self._buckets) > SUBJECTS_KEPT:
            self._buckets.popitem(last=False)
        if not enough:
            self._metrics.refused.labels("rate_limit").inc()
            wait = max(1, math.ceil((cost - tokens) / self._rate))
            raise TooMany("too many requests of one user", retry_after=wait)
