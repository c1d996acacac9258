"""The quarantine in process: the twin of ``quarantine.RedisQuarantine``, by the same rules."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from feedback.held import HeldVote, QuarantineVerdict, after_round, decided, listed


class MemoryQuarantine:
    """See ``held.Quarantine``."""

    def __init__(self) -> None:
        self._quarantine_lock = threading.Lock()
        self._held: dict[str, HeldVote] = {}

    def hold(self, alias: str, found: Sequence[HeldVote]) -> None:
        with self._quarantine_lock:
            kept = after_round(self._held.values(), alias, found)
            others = [one for one in self._held.values() if one.alias != alias]
            self._held = {one.event_id: one for one in (*others, *kept)}

    def quarantined(self, alias: str | None = None) -> list[HeldVote]:
        with self._quarantine_lock:
            return listed(self._held.values(), alias)

    def decide(self, name: str, verdict: QuarantineVerdict, now: float) -> list[HeldVote]:
        with self._quarantine_lock:
            changed = decided(self._held.values(), name, verdict, now)
            self._held |= {one.event_id: one for one in changed}
        return listed(changed, None)

    def drop_held(self, subject: str) -> None:
        with self._quarantine_lock:
            self._held = {name: one for name, one in self._held.items() if one.subject != subject}
