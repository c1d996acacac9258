"""A circuit breaker: an engine that is healthy by its own word and yet fails chats is left alone for a while."""

from __future__ import annotations

from dataclasses import dataclass

FAILURES = 3  # in a row after which it opens
LONGEST_PAUSE = 30.0  # seconds


@dataclass(slots=True)
class Breaker:
    """Closed until FAILURES in a row; then one chat at a time is let through after 1, 2, 4 … 30 seconds, and the
    first that goes well closes it. Times are seconds of a monotonic clock.
    """

    failures: int = 0
    opens_at: float = 0.0  # no chat before
    trying: bool = False  # the chat that was let through has not ended

    @property
    def open(self) -> bool:
        return self.failures >= FAILURES

    def allows(self, now: float) -> bool:
        """Whether a chat may be sent."""
        return not self.open or now >= self.opens_at

    def asked(self, now: float) -> None:
        """A chat is sent. While open, the next one waits for its outcome, or for another pause."""
        if self.open:
            self.trying = True
            self.opens_at = now + self._pause()

    def failed(self, now: float) -> None:
        """A chat failed by the engine's fault. Those that were under way when it opened tell nothing new: else an
        engine that dies under many streams would be left alone for the longest pause.
        """
        if self.open and not self.trying:
            return
        self.trying = False
        self.failures += 1
        if self.open:
            self.opens_at = now + self._pause()

    def worked(self) -> None:
        """A chat was answered."""
        self.failures, self.trying = 0, False

    def _pause(self) -> float:
        return float(min(LONGEST_PAUSE, 2.0 ** min(self.failures - FAILURES, 16)))
