"""The raters' queue in process: the twin of ``rating_queue.RedisRatingQueue``, by the same rules."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from feedback.rating import MOST_ITEMS, Item, Offer, goes_on, ranked


class MemoryRatingQueue:
    """See ``rating.RatingQueue``. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._items: defaultdict[str, dict[str, Item]] = defaultdict(dict)  # alias → id → item
        self._offers: defaultdict[tuple[str, str], dict[str, float]] = defaultdict(dict)  # rater → until
        self._seen: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._notes: dict[str, tuple[Offer, float]] = {}  # about → offer, until

    def fill(self, alias: str, items: Sequence[Item], overlap: int) -> None:
        with self._lock:
            begun = []
            for item in self._items[alias].values():
                untils = self._offers[alias, item.id].values()
                if goes_on(len(untils), sum(map(math.isinf, untils)), overlap):
                    begun.append(item)
            self._items[alias] = {item.id: item for item in ranked(begun, items)}

    def add(self, alias: str, item: Item) -> Item:
        with self._lock:
            stands = self._items[alias].setdefault(item.id, item)
            for name in self._ranked(alias)[MOST_ITEMS:]:
                del self._items[alias][name]
            return stands

    def take(
        self, alias: str, rater: str, overlap: int, life_seconds: float, ids: Sequence[str] | None = None
    ) -> tuple[str, Item | None] | None:
        with self._lock:
            now = self._clock()
            for name in self._ranked(alias) if ids is None else ids:
                offers = self._offers[alias, name]
                if (
                    name in self._seen[alias, rater]
                    or sum(until > now for until in offers.values()) >= overlap
                ):
                    continue
                offers[rater] = now + life_seconds
                self._seen[alias, rater].add(name)
                return name, self._items[alias].get(name)
        return None

    def note(self, about: str, offer: Offer, seconds: float) -> None:
        with self._lock:
            self._notes[about] = offer, self._clock() + seconds

    def offered(self, about: str) -> Offer | None:
        with self._lock:
            offer, until = self._notes.get(about, (None, 0.0))
            return offer if until > self._clock() else None

    def settle(self, alias: str, offer: Offer) -> None:
        with self._lock:
            offers = self._offers[alias, offer.item]
            if offer.rater in offers:
                offers[offer.rater] = math.inf

    def forget(self, aliases: Sequence[str], subject: str) -> None:
        with self._lock:
            for alias in aliases:
                for item in [one for one in self._items[alias].values() if one.author == subject]:
                    del self._items[alias][item.id]
                for name in self._seen.pop((alias, subject), set()):
                    self._offers[alias, name].pop(subject, None)

    def _ranked(self, alias: str) -> list[str]:
        """The most doubted first; of the same doubt in falling order of their ids, as the server has it."""
        return sorted(
            self._items[alias], key=lambda name: (self._items[alias][name].doubt, name), reverse=True
        )
