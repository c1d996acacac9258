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
from typing import BinaryIO, TypeAlias

from feedback.durable import fsync_folder, write_durably
from feedback.errors import InvalidRecord, SpoolFull
from feedback.events import Event, decode, encode
from feedback.protocols import Appended, EventLog

_GROUP_BYTES = 2**18  # of lines that go to the log in one round trip
_Identity: TypeAlias = tuple[int, ...] | tuple[int, bytes]


class Spool:
    """A folder that all gateways of a host share; safe for threads and processes."""

    def __init__(self, folder: Path, max_bytes: int = 256 * 2**20) -> None:
        self._folder, self._max = folder, max_bytes
        self._lock = threading.Lock()
        self._path = folder / "events.spool"
        self._moving = folder / "draining.spool"
        self._damaged = folder / "damaged.spool"
        self._moved: tuple[_Identity, int] = ((), 0)  # how far into which file this process has drained
        self._counted: dict[Path, tuple[_Identity, int, int]] = {}  # offset and lines up to it
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _locked(self, name: str = ".lock", *, wait: bool = True) -> Iterator[None]:
        """Raises BlockingIOError when another has the lock and ``wait`` is false."""
        with (self._folder / name).open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield

    def append(self, events: Sequence[Event], share: float = 1.0) -> list[Appended]:
        """Durable when it returns. Raises SpoolFull when ``share`` of the size limit is reached or the disk
        refuses: then none of ``events`` is kept.
        """
        lines = b"".join(_line(encode(event)) for event in events)
        try:
            with self._lock, self._locked():
                held, most = _size(self._path) + _size(self._moving), int(self._max * share)
                if held + len(lines) > most:
                    raise SpoolFull(f"the spool holds {held} bytes, its limit is {most}")
                self._write(lines)
        except OSError as error:
            raise SpoolFull(f"the disk refused the event: {error.strerror}") from error
        return [Appended(event.event_id, "new", getattr(event, "feedback_id", None)) for event in events]

    def _write(self, lines: bytes) -> None:
        fresh, size = not self._path.exists(), _size(self._path)
        with self._path.open("ab", buffering=0) as file:
            try:
                if size and not self._ends_whole():
                    lines = b"\n" + lines
                _write_all(file, lines)
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

    def drain(self, log: EventLog, *, wait: bool = True) -> int | None:
        """Move everything to the log, in order; how many went. None, when ``wait`` is false and another process is
        draining. Raises StoreUnavailable midway: the next call goes on there, that of another process from the
        start, for the log knows what it has. Raises SpoolFull when the disk refuses. New events may be appended
        meanwhile.
        """
        try:
            with self._locked(".drain", wait=wait):
                total = 0
                while self._set_apart():
                    total += self._move(log)
                return total
        except BlockingIOError:
            return None
        except OSError as error:
            raise SpoolFull(f"the disk refused to drain the spool: {error.strerror}") from error

    def _set_apart(self) -> bool:
        """Take the waiting file out of the writers' way; True when there is something to move."""
        with self._lock, self._locked():
            if not self._moving.exists() and self._path.exists():
                self._path.rename(self._moving)
                fsync_folder(self._folder)
            return self._moving.exists()

    def _move(self, log: EventLog) -> int:
        total = 0
        with self._moving.open("rb") as file:
            found = os.fstat(file.fileno())
            identity = (found.st_ino, found.st_ctime_ns, found.st_size)  # nobody appends to it
            if self._moved[0] == identity:
                file.seek(self._moved[1])
            while lines := file.readlines(_GROUP_BYTES):
                read = [(line, _event(line)) for line in lines]
                events = [event for _, event in read if event is not None]
                if events:
                    log.append(events)
                self._set_aside([line for line, event in read if event is None and line.strip()])
                self._moved = (identity, file.tell())
                total += len(events)
        with self._lock, self._locked():
            self._moving.unlink()
            fsync_folder(self._folder)
        return total

    def _set_aside(self, lines: Sequence[bytes]) -> None:
        if lines:
            with self._damaged.open("ab") as file:
                file.writelines(line.rstrip(b"\n") + b"\n" for line in lines)

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

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return _size(self._path) + _size(self._moving) == 0

    def pending(self) -> int:
        """How many events wait. Reads only what was not there at the last call."""
        with self._lock, self._locked():
            return sum(self._lines(path) for path in (self._moving, self._path))

    def _lines(self, path: Path) -> int:
        if not path.exists():
            return 0
        with path.open("rb") as file:
            identity = (os.fstat(file.fileno()).st_ino, file.read(64))
            known, offset, lines = self._counted.get(path, ((), 0, 0))
            if known != identity or offset > _size(path):
                offset = lines = 0
            file.seek(offset)
            while block := file.read(2**20):
                lines += block.count(b"\n")
            self._counted[path] = (identity, file.tell(), lines)
        return lines


def _write_all(file: BinaryIO, data: bytes) -> None:
    """Every byte: a disk that is nearly full takes a part of them."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _line(body: bytes) -> bytes:
    return f"{zlib.crc32(body):08x} ".encode() + body + b"\n"


def _event(line: bytes) -> Event | None:
    """The event on a line; None when the line is torn, damaged or of no known kind."""
    crc, _, body = line.rstrip(b"\n").partition(b" ")
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
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another process drains
        return 0
