"""The raters' queue on a Redis-protocol server; see ``rating.RatingQueue``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from feedback import keys
from feedback.rating import KEPT_SECONDS, MOST_ITEMS, Item, Offer, dump, goes_on, item_of, offer_of, ranked
from feedback.store import translated

_TAKE = (Path(__file__).parent / "rating.lua").read_text()


class RedisRatingQueue:
    """See ``rating.RatingQueue``."""

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client
        self._take: Any = client.register_script(_TAKE)

    def fill(self, alias: str, items: Sequence[Item], overlap: int) -> None:
        with translated():
            stood = [item_of(data) for data in self._client.hgetall(keys.items(alias)).values()]
            with self._client.pipeline(transaction=False) as pipe:
                for item in stood:
                    pipe.zcard(keys.offers(alias, item.id))
                    pipe.zcount(keys.offers(alias, item.id), "+inf", "+inf")
                counts = iter(pipe.execute())
            begun = [
                item
                for item, n in zip(stood, zip(counts, counts, strict=True), strict=True)
                if goes_on(*n, overlap)
            ]
            kept = ranked(begun, items)
            with self._client.pipeline(transaction=True) as pipe:
                pipe.delete(keys.ranking(alias), keys.items(alias))
                if kept:
                    pipe.zadd(keys.ranking(alias), {item.id: item.doubt for item in kept})
                    pipe.hset(keys.items(alias), mapping={item.id: dump(item) for item in kept})
                pipe.execute()

    def add(self, alias: str, item: Item) -> Item:
        with translated(), self._client.pipeline(transaction=True) as pipe:
            pipe.hsetnx(keys.items(alias), item.id, dump(item))
            pipe.zadd(keys.ranking(alias), {item.id: item.doubt}, nx=True)
            pipe.hget(keys.items(alias), item.id)
            pipe.zcard(keys.ranking(alias))
            *_, stands, count = pipe.execute()
            if count > MOST_ITEMS:
                gone = [name for name, _ in self._client.zpopmin(keys.ranking(alias), count - MOST_ITEMS)]
                self._client.hdel(keys.items(alias), *gone)
        return item_of(stands)

    def take(
        self, alias: str, rater: str, overlap: int, life_seconds: float, ids: Sequence[str] | None = None
    ) -> tuple[str, Item | None] | None:
        if ids is not None and not ids:
            return None
        told = [rater, overlap, int(life_seconds * 1000), int(KEPT_SECONDS * 1000), keys.offers(alias, "")]
        with translated():
            found = self._take(
                keys=[keys.ranking(alias), keys.items(alias), keys.rated(alias, rater)],
                args=[*told, *(ids or ())],
            )
        if not found:
            return None
        name, data = found
        return name.decode(), item_of(data) if data else None

    def note(self, about: str, offer: Offer, seconds: float) -> None:
        with translated():
            self._client.set(keys.offer(about), dump(offer), px=max(1, int(seconds * 1000)))

    def offered(self, about: str) -> Offer | None:
        with translated():
            data = self._client.get(keys.offer(about))
        return None if data is None else offer_of(data)

    def settle(self, alias: str, offer: Offer) -> None:
        with translated():
            self._client.zadd(keys.offers(alias, offer.item), {offer.rater: "+inf"}, xx=True)

    def forget(self, aliases: Sequence[str], subject: str) -> None:
        with translated():
            for alias in aliases:
                stored = self._client.hgetall(keys.items(alias))
                asked = [name for name, data in stored.items() if item_of(data).author == subject]
                seen = [name.decode() for name in self._client.smembers(keys.rated(alias, subject))]
                with self._client.pipeline(transaction=True) as pipe:
                    if asked:
                        pipe.hdel(keys.items(alias), *asked)
                        pipe.zrem(keys.ranking(alias), *asked)
                    for name in seen:
                        pipe.zrem(keys.offers(alias, name), subject)
                    pipe.delete(keys.rated(alias, subject))
                    pipe.execute()
