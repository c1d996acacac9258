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

from feedback.durable import fsync_folder, write_durably
from feedback.errors import InvalidRecord, SpoolFull
from feedback.events import Event, decode, encode
from feedback.protocols import Appended, EventLog

_GROUP = 500


class Spool:
    """A folder that all gateways of a host share; safe for threads and processes."""

    def __init__(self, folder: Path, max_bytes: int = 256 * 2**20) -> None:
        self._folder, self._max = folder, max_bytes
        self._lock = threading.Lock()
        self._path = folder / "events.spool"
        self._moving = folder / "draining.spool"
        self._damaged = folder / "damaged.spool"
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _locked(self, name: str = ".lock") -> Iterator[None]:
        with (self._folder / name).open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def append(self, events: Sequence[Event]) -> list[Appended]:
        """Durable when it returns. Raises SpoolFull at the size limit or when the disk refuses: then none of
        ``events`` is kept.
        """
        lines = b"".join(_line(encode(event)) for event in events)
        with self._lock, self._locked():
            try:
                held = _size(self._path) + _size(self._moving)
                if held + len(lines) > self._max:
                    raise SpoolFull(f"the spool holds {held} bytes, its limit is {self._max}")
                self._write(lines)
            except OSError as error:
                raise SpoolFull(f"the disk refused the event: {error.strerror}") from error
        return [Appended(event.event_id, "new", getattr(event, "feedback_id", None)) for event in events]

    def _write(self, lines: bytes) -> None:
        fresh, size = not self._path.exists(), _size(self._path)
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
        if fresh:
            fsync_folder(self._folder)

    def _ends_whole(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def drain(self, log: EventLog) -> int:
        """Move everything to the log, in order; returns how many went. Raises StoreUnavailable midway, and
        then starts over the next time: the log knows what it has. New events may be appended meanwhile.
        """
        with self._locked(".drain"):
            total = 0
            while self._set_apart():
                events = self._read(self._moving)
                for start in range(0, len(events), _GROUP):
                    log.append(events[start : start + _GROUP])
                with self._lock, self._locked():
                    self._moving.unlink()
                    fsync_folder(self._folder)
                total += len(events)
            return total

    def _set_apart(self) -> bool:
        """Take the waiting file out of the writers' way; True when there is something to move."""
        with self._lock, self._locked():
            if not self._moving.exists() and self._path.exists():
                self._path.rename(self._moving)
                fsync_folder(self._folder)
            return self._moving.exists()

    def _read(self, path: Path) -> list[Event]:
        events = []
        for line in path.read_bytes().split(b"\n"):
            event = _event(line)
            if event is not None:
                events.append(event)
            elif line:
                self._set_aside(line)
        return events

    def _set_aside(self, line: bytes) -> None:
        with self._damaged.open("ab") as file:
            file.write(line + b"\n")

    def forget(self, subject: str, before: float) -> int:
        """Drop the subject's events up to ``before`` (Unix seconds), and damaged lines that name it; returns
        how many went.
        """
        gone = 0
        with self._locked(".drain"), self._lock, self._locked():
            for path in (self._path, self._moving, self._damaged):
                if not path.exists():
                    continue
                lines = path.read_bytes().split(b"\n")
                kept = [line for line in lines if not _said_by(line, subject, before)]
                if len(kept) < len(lines):
                    gone += len(lines) - len(kept)
                    write_durably(path, b"\n".join(kept))
        return gone

    def pending(self) -> int:
        """How many events wait."""
        with self._lock, self._locked():
            waiting = [path.read_bytes() for path in (self._moving, self._path) if path.exists()]
        return sum(data.count(b"\n") for data in waiting)


def _line(body: bytes) -> bytes:
    return f"{zlib.crc32(body):08x} ".encode() + body + b"\n"


def _event(line: bytes) -> Event | None:
    """The event on a line; None when the line is torn, damaged or of no known kind."""
    crc, _, body = line.partition(b" ")
    try:
        return decode(body) if body and int(crc, 16) == zlib.crc32(body) else None
    except (ValueError, InvalidRecord):
        return None


def _said_by(line: bytes, subject: str, before: float) -> bool:
    event = _event(line)
    if event is None:
        return subject.encode() in line
    return event.subject == subject and event.time <= before


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
