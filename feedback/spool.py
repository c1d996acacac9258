"""The fsynced local file that holds events while the store is away.

One line an event: crc32 of the body in hex, a space, the body. A torn or damaged line is set aside, the
others are kept. Draining appends to the log in order under the same event ids, so a crash between
the append and the forgetting of the file counts nothing twice.
"""

from __future__ import annotations

import fcntl
import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from feedback.errors import InvalidRecord, SpoolFull
from feedback.events import Event, decode, encode
from feedback.protocols import Appended, EventLog

_GROUP = 500


class Spool:
    """A folder with one file of waiting events a process; safe for threads of one process."""

    def __init__(self, folder: Path, max_bytes: int = 256 * 2**20) -> None:
        self._folder, self._max = folder, max_bytes
        self._lock = threading.Lock()
        self._path = folder / "events.spool"
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process and thread at a time: gateways of one host share the folder."""
        with self._lock, (self._folder / ".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def append(self, events: Sequence[Event]) -> list[Appended]:
        """Durable when it returns. Raises SpoolFull at the size limit or when the disk refuses."""
        lines = b"".join(_line(encode(event)) for event in events)
        with self._locked():
            size = self._path.stat().st_size if self._path.exists() else 0
            if size + len(lines) > self._max:
                raise SpoolFull(f"the spool holds {size} bytes, its limit is {self._max}")
            try:
                self._write(lines, size)
            except OSError as error:
                raise SpoolFull(f"the disk refused the vote: {error.strerror}") from error
        return [Appended(event.event_id, "new", getattr(event, "feedback_id", None)) for event in events]

    def _write(self, lines: bytes, size: int) -> None:
        with self._path.open("ab") as file:
            try:
                if size and not self._ends_whole():
                    file.write(b"\n")
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self._path, size)
                raise

    def _ends_whole(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def drain(self, log: EventLog) -> int:
        """Move everything to the log, in order; returns how many went. Raises StoreUnavailable midway."""
        with self._locked():
            if not self._path.exists():
                return 0
            events = list(self._read())
            for start in range(0, len(events), _GROUP):
                log.append(events[start : start + _GROUP])
            self._path.unlink()
            return len(events)

    def _read(self) -> Iterator[Event]:
        for line in self._path.read_bytes().split(b"\n"):
            crc, _, body = line.partition(b" ")
            try:
                if body and int(crc, 16) == zlib.crc32(body):
                    yield decode(body)
                    continue
            except (ValueError, InvalidRecord):
                pass
            if line:
                self._set_aside(line)

    def _set_aside(self, line: bytes) -> None:
        with (self._folder / "damaged.spool").open("ab") as file:
            file.write(line + b"\n")

    def pending(self) -> int:
        """How many events wait."""
        if not self._path.exists():
            return 0
        return self._path.read_bytes().count(b"\n")


def _line(body: bytes) -> bytes:
    return f"{zlib.crc32(body):08x} ".encode() + body + b"\n"
