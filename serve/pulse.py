"""Whether an engine's core lives. vLLM's front end answers ``/health`` also while its core hangs, and the streams
that come from it would be silent for as long as a reply may be.

An engine is taken for hung when none of its chats heard anything for so long *and* its own counts (tokens, places in
the cache, requests) stood still for the second half of that time. A slow one moves them: each step counts tokens, and a
long prompt takes places in the cache piece by piece. What looks like a hang in a live core is a single step that
takes that long; an engine that comes back by itself is given twice the time from then on.
"""

from __future__ import annotations

from dataclasses import dataclass

PATIENCE_SECONDS = 30.0
Counts = tuple[str, ...]  # what an engine tells of its work, as it tells it


@dataclass(slots=True)
class Pulse:
    """Of one engine. Times are seconds of a monotonic clock."""

    patience: float = PATIENCE_SECONDS
    hangs: bool = False
    _counts: Counts = ()
    _still_since: float = 0.0
    _silent_since: float = 0.0

    def doubtful(self, silence: float) -> bool:
        """Whether a silence of all its chats is so long that its counts are to be looked at."""
        if silence < self.patience / 2:
            self._counts = ()
            return False
        return True

    def stopped(self, counts: Counts, silence: float, now: float) -> bool:
        """Whether it hangs, by its counts now. None told is no sign of anything."""
        if not counts or counts != self._counts:
            self._counts, self._still_since = counts, now
            return False
        return silence >= self.patience and now - self._still_since >= self.patience / 2

    def hung(self, silence: float, now: float) -> None:
        """It gets no chats until it answers."""
        self.hangs, self._silent_since = True, now - silence

    def answered(self, now: float) -> None:
        """It was no hang, only slow."""
        self.hangs, self._counts = False, ()
        self.patience = max(self.patience, 2 * (now - self._silent_since))

    def restarted(self) -> None:
        """It is not there: what comes back is another process."""
        self.hangs, self._counts = False, ()
