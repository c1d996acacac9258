"""Random bytes for what must be unique and is no secret: ids.

Each call of ``os.urandom`` is one of the system, during which other threads take the interpreter; chats need several.
So they are taken in gulps. A process that forks gives its child none of its own.
"""

from __future__ import annotations

import os
import threading

_GULP = 4096  # bytes


class _Source:
    """One gulp, and how much of it was given out."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Give out nothing of what is left."""
        self._lock = (
            threading.Lock()
        )  # in a child of a fork the former may be held by a thread that is not there
        self._gulp, self._at = b"", 0

    def take(self, count: int) -> bytes:
        """So many bytes, which nobody was given before."""
        if count > _GULP:
            return os.urandom(count)
        with self._lock:
            if self._at + count > len(self._gulp):
                self._gulp, self._at = os.urandom(_GULP), 0
            self._at += count
            return self._gulp[self._at - count : self._at]


_source = _Source()
os.register_at_fork(after_in_child=_source.renew)


def unique(count: int) -> bytes:
    """So many random bytes."""
    return _source.take(count)
