"""Token buckets of this process, and what of their use the other gateways have not been told.

A bucket here never grants more than ``burst + rate × time``, whatever the store says: the store only lowers it,
by what the others took. So nothing waits for the store, and without it each process holds the limit alone.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from feedback.protocols import Use

KEPT = 50_000  # the longest unseen is forgotten first; its bucket would mostly be full again
EARLY_SHARE = 0.1  # of what is left: more than this untold, and the others should hear of it soon
SLACK = 1e-6  # units; rounding must not refuse who waited as long as was said


@dataclass(frozen=True, slots=True)
class Quota:
    """What flows into a bucket and what it holds."""

    rate: float  # units a second, > 0
    burst: float  # units, > 0

    @classmethod
    def per(cls, units: float, seconds: float) -> Quota:
        """So many units in so many seconds; all of them may come at once."""
        return cls(units / seconds, max(1.0, units))


class Bucket:
    """One bucket. Times are of the monotonic clock."""

    __slots__ = ("_at", "_level", "quota", "untold")

    def __init__(self, quota: Quota, now: float) -> None:
        self.quota, self._level, self._at = quota, quota.burst, now
        self.untold = 0.0  # units taken since the store was told

    def left(self, now: float) -> float:
        """Units in it; below 0 when more was taken than there was."""
        passed, burst = now - self._at, self.quota.burst
        level = self._level + passed * self.quota.rate if passed > 0 else self._level
        return min(burst, level)

    def wait(self, now: float, units: float) -> float:
        """Seconds until so many units are in it; 0: they are."""
        missing = units - self.left(now)
        return missing / self.quota.rate if missing > SLACK else 0.0

    def take(self, now: float, units: float) -> float:
        """Take them, there or not; returns what is left."""
        self._level, self._at = self.left(now) - units, max(self._at, now)
        self.untold += units
        return self._level

    def lower(self, now: float, level: float) -> None:
        """The store says that all gateways together left so much; what is untold is not in it."""
        self._level, self._at = min(self.left(now), level - self.untold), max(self._at, now)

    def change(self, now: float, quota: Quota) -> None:
        """The limit is another from now on; what was taken stays taken."""
        missing = max(0.0, self.quota.burst - self.left(now))
        self.quota, self._level, self._at = quota, quota.burst - missing, max(self._at, now)


class Buckets:
    """Buckets by name, made full when first asked for; of bounded number."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        kept: int = KEPT,
        early: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock, self._kept = clock, kept
        self._early = early  # called when so much is untold that the store should hear of it soon
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._touched: dict[str, Bucket] = {}  # since the store was last told

    def of(self, name: str, quota: Quota) -> Bucket:
        """The bucket of that name, of which the store is told next time; to be used at once and not kept."""
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = Bucket(quota, self._clock())
            if len(self._buckets) > self._kept:
                oldest, _ = self._buckets.popitem(last=False)
                self._touched.pop(oldest, None)
        else:
            self._buckets.move_to_end(name)
            if bucket.quota is not quota and bucket.quota != quota:
                bucket.change(self._clock(), quota)
        self._touched[name] = bucket
        return bucket

    def take(self, bucket: Bucket, now: float, units: float) -> None:
        """Take them from one of these, there or not."""
        left = bucket.take(now, units)
        if bucket.untold > 1.0 and bucket.untold > EARLY_SHARE * left:
            self._early()

    def untold(self, most: int) -> list[Use]:
        """What the store should hear, of at most so many buckets. When it cannot be told it never hears of it,
        but the buckets here have counted it.
        """
        uses = []
        for name in list(self._touched)[:most]:
            bucket = self._touched.pop(name)
            uses.append(Use(name, bucket.quota.rate, bucket.quota.burst, bucket.untold))
            bucket.untold = 0.0
        return uses

    def told(self, levels: Mapping[str, float]) -> None:
        """The store's answer: the level of each bucket that it was told of."""
        now = self._clock()
        for name, level in levels.items():
            bucket = self._buckets.get(name)
            if bucket is not None:
                bucket.lower(now, level)


def whole_seconds(wait: float) -> int:
    """A wait as ``Retry-After`` says it: rounded up, never 0."""
    return max(1, math.ceil(wait))
