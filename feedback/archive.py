"""The archive: immutable Parquet segments of events, each with a manifest that is written last.

A segment is named by its first and last position in the log and its length, so writing the same entries again
after a crash makes the same file. Overlapping segments are harmless: an event is read once. Files without
a manifest are not there. Writers take turns by a lock on the folder; readers need none.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feedback.columns import SCHEMA, entries_of, of_kinds, table_of, up_to, upgraded
from feedback.durable import fsync_folder, write_durably
from feedback.errors import InvalidRecord
from feedback.protocols import Entry


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of the archive."""

    name: str
    events: int
    sha256: str  # of the Parquet file
    first: str  # positions in the log
    last: str


def order(position: str) -> tuple[int, int]:
    """A position of the log as a sort key."""
    major, _, minor = position.partition("-")
    return int(major), int(minor or 0)


def _name(entries: Sequence[Entry]) -> str:
    first, last = (order(entry.position) for entry in (entries[0], entries[-1]))
    return f"{first[0]:015d}-{first[1]:06d}_{last[0]:015d}-{last[1]:06d}_{len(entries)}"


class Archive:
    """A folder of segments."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def write(self, entries: Sequence[Entry]) -> Segment | None:
        """Durable when it returns: only then may the entries be acknowledged. None when there are none."""
        if not entries:
            return None
        with self._writing():
            return self._write(entries)

    def _write(self, entries: Sequence[Entry]) -> Segment:
        once = {entry.position: entry for entry in entries}
        ordered = sorted(once.values(), key=lambda entry: order(entry.position))
        name, data = _name(ordered), _parquet(ordered)
        write_durably(self.root / f"{name}.parquet", data)
        digest = hashlib.sha256(data).hexdigest()
        segment = Segment(name, len(ordered), digest, ordered[0].position, ordered[-1].position)
        write_durably(self.root / f"{name}.json", orjson.dumps(asdict(segment)))
        return segment

    def segments(self) -> list[Segment]:
        """Oldest first."""
        found = []
        for path in self.root.glob("*.json"):
            try:
                found.append(Segment(**orjson.loads(path.read_bytes())))
            except FileNotFoundError:  # merged or rewritten just now
                continue
            except (orjson.JSONDecodeError, TypeError) as error:
                raise InvalidRecord(path.name, f"is no manifest of a segment ({error})") from error
        return sorted(found, key=lambda segment: (order(segment.first), order(segment.last), segment.name))

    def last_position(self) -> str | None:
        """The position of the last entry; None when there is none."""
        return max((segment.last for segment in self.segments()), key=order, default=None)

    def events(
        self, since_position: str | None = None, kinds: Collection[str] | None = None
    ) -> Iterator[Entry]:
        """Every event once, in the log's order as far as segments tell; those after ``since_position``, of
        ``kinds`` (None: all). Raises InvalidRecord when a segment is not the one that was written.
        """
        floor = order(since_position) if since_position else (-1, -1)
        seen: set[str] = set()
        for table in self.tables(kinds=kinds, since_position=since_position):
            for entry in entries_of(table):
                if entry.event.event_id not in seen and order(entry.position) > floor:
                    seen.add(entry.event.event_id)
                    yield entry

    def tables(
        self,
        columns: Sequence[str] | None = None,
        kinds: Collection[str] | None = None,
        since_position: str | None = None,
        until_position: str | None = None,
    ) -> Iterator[Any]:
        """Segment by segment a table of ``columns`` (of ``feedback.columns.SCHEMA``; None: all), of ``kinds``, of
        segments that reach beyond ``since_position``, of entries up to ``until_position``. Where segments overlap an
        event comes twice, under one ``event_id``. Raises InvalidRecord as ``events`` does.
        """
        floor = order(since_position) if since_position else (-1, -1)
        done: set[str] = set()
        while True:
            waiting = [s for s in self.segments() if s.name not in done and order(s.last) > floor]
            if not waiting:
                return
            for segment in waiting:
                done.add(segment.name)
                try:
                    table = self._read(segment, columns)
                except FileNotFoundError:  # merged or rewritten since it was listed: the next look finds it
                    continue
                if until_position is not None and order(segment.last) > order(until_position):
                    table = up_to(table, order(until_position))
                yield of_kinds(table, kinds).select(columns or SCHEMA.names)

    def _read(self, segment: Segment, columns: Sequence[str] | None = None) -> Any:
        """``columns``, kind and position (None: all), whatever they were when the segment was written."""
        data = (self.root / f"{segment.name}.parquet").read_bytes()
        if hashlib.sha256(data).hexdigest() != segment.sha256:
            raise InvalidRecord(f"{segment.name}.parquet", "is damaged: its sha256 is not its manifest's")
        file = pq.ParquetFile(pa.BufferReader(data))
        if columns is None or not set(SCHEMA.names) <= set(file.schema_arrow.names):
            return upgraded(file.read())
        return file.read(columns=sorted({"kind", "position", *columns}))

    def compact(self, small: int = 2000, most: int = 20000) -> int:
        """Merge runs of segments of under ``small`` events into ones of up to ``most``; returns how many
        segments went. A crash midway leaves events twice on disk, and once when read.
        """
        gone = 0
        with self._writing():
            for run in _runs(self.segments(), small, most):
                entries = [entry for segment in run for entry in self._entries(segment)]
                merged = self._write(entries)
                gone += self._remove([segment for segment in run if segment.name != merged.name])
            self._remove_orphans()
        return gone

    def forget(self, subject: str, before: float = float("inf")) -> int:
        """Rewrite every segment that holds events of the subject from up to ``before`` (Unix seconds) without
        them; returns how many events went. Safe to repeat after a crash.
        """
        return self._rewrite(
            lambda entry: entry.event.subject != subject or entry.event.time > before, subject
        )

    def _rewrite(self, keep: Callable[[Entry], bool], subject: str) -> int:
        gone = 0
        if not self.root.exists():
            return 0
        with self._writing():
            for segment in self.segments():
                held = self._read(segment).column("subject")
                if not pc.any(pc.equal(held, subject)).as_py():
                    continue
                entries = self._entries(segment)
                kept = [entry for entry in entries if keep(entry)]
                if len(kept) < len(entries):
                    gone += len(entries) - len(kept)
                    if kept:
                        self._write(kept)
                    self._remove([segment])
            self._remove_orphans()
        return gone

    def _entries(self, segment: Segment) -> list[Entry]:
        return list(entries_of(self._read(segment)))

    def _remove(self, segments: Sequence[Segment]) -> int:
        """The manifest first: a file without one is not there."""
        for suffix in ("json", "parquet"):
            for segment in segments:
                (self.root / f"{segment.name}.{suffix}").unlink(missing_ok=True)
            fsync_folder(self.root)
        return len(segments)

    def _remove_orphans(self) -> None:
        """What a crash left: files without a manifest, and drafts. Nobody writes now, the lock is ours."""
        whole = {path.stem for path in self.root.glob("*.json")}
        drafts = list(self.root.glob(".*.tmp"))
        for path in [*drafts, *(p for p in self.root.glob("*.parquet") if p.stem not in whole)]:
            path.unlink(missing_ok=True)
        fsync_folder(self.root)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An archive as it was when its last entry was at ``until``; None: when it was empty."""

    archive: Archive
    until: str | None

    def tables(
        self, columns: Sequence[str] | None = None, kinds: Collection[str] | None = None
    ) -> Iterator[Any]:
        """As the archive's."""
        if self.until is not None:
            yield from self.archive.tables(columns, kinds, until_position=self.until)


def _parquet(entries: Sequence[Entry]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table_of(entries), sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _runs(segments: Sequence[Segment], small: int, most: int) -> list[list[Segment]]:
    """Neighbours to merge: at least two, each small, together not too large."""
    runs: list[list[Segment]] = [[]]
    for segment in segments:
        if segment.events >= small or sum(s.events for s in runs[-1]) + segment.events > most:
            runs.append([])
        if segment.events < small:
            runs[-1].append(segment)
    return [run for run in runs if len(run) > 1]
