"""A round that hangs ends its process: a lease that its heartbeat renews for ever would never pass on.

A disk that does not answer, a deadlock in a library or a device that is gone raises no error. What works tells of
itself, and silence is all that such a round shows. Nothing can be cleared up from outside it, so the process ends
at once; its supervisor starts another, and the round is taken up from its batch and checkpoint.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

EXIT = 70  # EX_SOFTWARE of sysexits.h


class Silence:
    """Seconds since work last told of itself. ``seconds``: how long it may be silent; 0: for ever."""

    def __init__(self, seconds: float, end: Callable[[int], object] = os._exit) -> None:
        self.seconds, self._end = seconds, end
        self._heard = time.monotonic()

    def heard(self) -> None:
        """Work goes on."""
        self._heard = time.monotonic()

    def check(self, tell: Callable[[str], object]) -> None:
        """End the process when it has been silent for too long, once ``tell`` has had the word."""
        silent = time.monotonic() - self._heard
        if self.seconds and silent > self.seconds:
            try:
                tell(f"no sign of work for {silent:.0f} s, at most {self.seconds:.0f}: the process ends")
            finally:
                self._end(EXIT)
