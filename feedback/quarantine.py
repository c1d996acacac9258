"""The quarantine on a Redis-protocol server: one hash, changed in one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from feedback import keys
from feedback.held import HeldVote, QuarantineVerdict, after_round, decided, listed
from feedback.records import dump, load
from feedback.store import translated


class RedisQuarantine:
    """See ``held.Quarantine``."""

    _client: Any  # of redis; its stubs offer str and bytes for every answer, ours are bytes

    def hold(self, alias: str, found: Sequence[HeldVote]) -> None:
        def change(pipe: Any) -> None:
            standing = _read(pipe)
            kept = {one.event_id: one for one in after_round(standing, alias, found)}
            gone = [one.event_id for one in standing if one.alias == alias and one.event_id not in kept]
            pipe.multi()
            if gone:
                pipe.hdel(keys.QUARANTINE, *gone)
            if kept:
                pipe.hset(keys.QUARANTINE, mapping={event: dump(one) for event, one in kept.items()})

        self._whole(change)

    def quarantined(self, alias: str | None = None) -> list[HeldVote]:
        with translated():
            return listed(_read(self._client), alias)

    def decide(self, name: str, verdict: QuarantineVerdict, now: float) -> list[HeldVote]:
        changed: list[HeldVote] = []

        def change(pipe: Any) -> None:
            changed[:] = decided(_read(pipe), name, verdict, now)
            pipe.multi()
            pipe.hset(keys.QUARANTINE, mapping={one.event_id: dump(one) for one in changed})

        self._whole(change)
        return listed(changed, None)

    def drop_held(self, subject: str) -> None:
        def change(pipe: Any) -> None:
            gone = [one.event_id for one in _read(pipe) if one.subject == subject]
            pipe.multi()
            if gone:
                pipe.hdel(keys.QUARANTINE, *gone)

        self._whole(change)

    def _whole(self, change: Callable[[Any], None]) -> None:
        """Run ``change(pipe)`` until nobody wrote in between."""
        with translated():
            self._client.transaction(change, keys.QUARANTINE)


def _read(client: Any) -> list[HeldVote]:
    return [load(HeldVote, data) for data in client.hvals(keys.QUARANTINE)]
