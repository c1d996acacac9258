"""How a trainer's process speaks: a line of JSON to it, a line of JSON back; it works only when it is asked to."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Ended(Exception):
    """Nobody will ask for more."""


class Turns:
    """The child's end. What else is printed goes to stderr."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it may be killed at any time
        self.settings: dict[str, Any] = self.read()
        self._until, self._began, self._samples, self._tokens = 0.0, 0.0, 0, 0
        self._folder = ""
        self.write: Callable[[Path], object] | None = None  # the adapter as it is, into a folder
        self.beside: dict[str, Any] = {}  # told with every turn

    def tell(self, **row: Any) -> None:
        """A line to the parent."""
        self._out.write(json.dumps(row) + "\n")
        self._out.flush()

    def ready(self) -> None:
        """Made and loaded; returns when the first turn begins. Raises Ended."""
        self.tell(ready=True)
        self._next()

    def stepped(self, samples: int, tokens: int) -> None:
        """One step is done, ``tokens`` of replies in all. At the end of a turn it waits for the next. Raises Ended."""
        self._samples += samples
        self._tokens += tokens
        now = time.monotonic()
        if now < self._until:
            return
        if self._folder and self.write is not None:
            self.write(Path(self._folder))
        peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        self.tell(
            samples=self._samples,
            seconds=now - self._began,
            tokens=self._tokens / self._samples,
            peak_mb=peak,
            **self.beside,
        )
        self._next()

    def _next(self) -> None:
        asked = self.read()
        seconds, self._folder = float(asked["seconds"]), asked.get("adapter", "")
        self._samples = self._tokens = 0
        self._began = time.monotonic()
        self._until = self._began + seconds

    def read(self) -> dict[str, Any]:
        """The next line that is asked. Raises Ended."""
        line = sys.stdin.readline()
        if not line.strip():
            raise Ended
        told: dict[str, Any] = json.loads(line)
        return told
