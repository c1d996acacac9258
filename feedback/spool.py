"""The fsynced local file that holds events while the store is away.

One line an event: crc32 of the body in hex, a space, the body. A torn or damaged line is set aside, the
others are kept. Draining appends to the log in order under the same event ids, so a crash between
the append and the forgetting of the file counts nothing twice. An event that the store refuses while it takes
others is set aside in a file of its own, in the same form, so that it holds nobody up; it can be offered again.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

from feedback.appended import Appended
from feedback.durable import fsync_folder, write_durably
from feedback.errors import EventsRefused, InvalidRecord, SpoolFull, StoreUnavailable
from feedback.events import Event, decode, encode
from feedback.protocols import EventLog

logger = logging.getLogger(__name__)
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
        self._refused = folder / "refused.spool"
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
                self._write(self._path, lines)
        except OSError as error:
            raise SpoolFull(f"the disk refused the event: {error.strerror}") from error
        return [Appended(event.event_id, "new", getattr(event, "feedback_id", None)) for event in events]

    def _write(self, path: Path, lines: bytes) -> None:
        """Durable at the end of the file when it returns; none of it when the disk refuses."""
        fresh, size = not path.exists(), _size(path)
        with path.open("ab", buffering=0) as file:
            try:
                if size and not _ends_whole(path):
                    lines = b"\n" + lines
                _write_all(file, lines)
                os.fsync(file.fileno())
            except OSError:
                os.truncate(path, size)
                raise
        if fresh:
            fsync_folder(self._folder)

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
        total, refused, damaged = 0, _Refused(), list[bytes]()
        with self._moving.open("rb") as file:
            found = os.fstat(file.fileno())
            identity = (found.st_ino, found.st_ctime_ns, found.st_size)  # nobody appends to it
            if self._moved[0] == identity:
                file.seek(self._moved[1])
            while lines := file.readlines(_GROUP_BYTES):
                total += refused.offer(log, lines, damaged)
                if refused.lines and refused.others_pass:
                    self._refuse(refused)
                if not refused.lines:  # else the next call offers them again
                    self._set_aside(damaged)
                    self._moved = (identity, file.tell())
        with self._lock, self._locked():
            if refused.lines:  # and nothing else was new to the log: it may refuse everything
                if not _size(self._path):
                    raise StoreUnavailable(f"the store refuses all that is offered: {refused.why}")
                self._write(self._path, b"".join(refused.lines))  # after newer ones, which may pass
            self._set_aside(damaged)
            self._moving.unlink()
            fsync_folder(self._folder)
        return total

    def _refuse(self, refused: _Refused) -> None:
        """Set them aside: the store takes others."""
        self._write(self._refused, b"".join(refused.lines))
        logger.error(
            "%d events are set aside in %s: the store refuses them (%s) and takes others",
            len(refused.lines),
            self._refused.name,
            refused.why,
        )
        refused.lines.clear()

    def refused(self) -> int:
        """How many events are set aside because the store refuses them."""
        with self._lock, self._locked():
            return self._lines(self._refused)

    def offer_refused(self, log: EventLog) -> int:
        """Offer the log again what it refused; how many it has now. What it still refuses stays where it is. Raises
        StoreUnavailable, and SpoolFull when the disk refuses: then all of it stays.
        """
        if not _size(self._refused):
            return 0
        try:
            with self._locked(".drain", wait=False):
                total, still, damaged = 0, _Refused(), list[bytes]()
                with self._refused.open("rb") as file:
                    while lines := file.readlines(_GROUP_BYTES):
                        total += still.offer(log, lines, damaged)
                if total or damaged:
                    self._set_aside(damaged)
                    write_durably(self._refused, b"".join(still.lines))
                return total
        except (BlockingIOError, FileNotFoundError):  # another process is at it, or was
            return 0
        except OSError as error:
            raise SpoolFull(f"the disk refused to mend the spool: {error.strerror}") from error

    def _set_aside(self, damaged: list[bytes]) -> None:
        if damaged:
            with self._damaged.open("ab") as file:
                file.writelines(damaged)
            damaged.clear()

    def forget(self, subject: str, before: float) -> int:
        """Drop the subject's events up to ``before`` (Unix seconds), and damaged lines that name it; returns
        how many went.
        """
        gone = 0
        with self._locked(".drain"), self._lock, self._locked():
            for path in (self._path, self._moving, self._damaged, self._refused):
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


class _Refused:
    """What a log refused of what it was offered, and whether it took anything that it had not before."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.others_pass = False
        self.why = ""

    def offer(self, log: EventLog, lines: Sequence[bytes], damaged: list[bytes]) -> int:
        """How many of the lines' events the log has now; ``damaged`` grows by those that hold none."""
        read = [(line.rstrip(b"\n") + b"\n", _event(line)) for line in lines if line.strip()]
        damaged += [line for line, event in read if event is None]
        whole = [(line, event) for line, event in read if event is not None]
        appended: Sequence[Appended | None]
        try:
            appended = log.append([event for _, event in whole])
        except EventsRefused as error:
            appended, self.why = error.appended, error.why
        self.lines += [line for (line, _), one in zip(whole, appended, strict=True) if one is None]
        taken = [one for one in appended if one is not None]
        self.others_pass |= any(
            one.status != "repeat" for one in taken
        )  # a repeat is answered without a write
        return len(taken)


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


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
