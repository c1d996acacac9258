"""The archive: immutable Parquet segments of events, each with a manifest that is written last.

A segment is named by its first and last position in the log, its length and its bytes, so writing the same entries
again after a crash makes the same file, and no name ever has other bytes. Overlapping segments are harmless: an event
is read once. Files without a manifest are not there. Writers take turns; readers need none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feedback.columns import SCHEMA, entries_of, of_kinds, ordered, table_of, up_to, upgraded, with_text
from feedback.errors import InvalidRecord
from feedback.events import Event
from feedback.protocols import Entry
from feedback.shelf import DRAFT, Check, Turn, shelf_of
from feedback.texts import belongs, has_text, without_text

KNOWN = 20_000
"""Manifests kept in memory: a segment's name never has other bytes."""
_known: dict[tuple[str, str], Segment] = {}
_PARTS = 4  # of a name that says its bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of the archive."""

    name: str
    events: int
    sha256: str  # of the Parquet file
    first: str  # positions in the log
    last: str
    oldest: float | None = None  # Unix seconds of its oldest event; None: written before this was noted
    oldest_text: float | None = None  # and of the oldest that has any text; -1: none has; None: not noted


_FIELDS = {field.name for field in fields(Segment)}


def order(position: str) -> tuple[int, int]:
    """A position of the log as a sort key."""
    major, _, minor = position.partition("-")
    return int(major), int(minor or 0)


def _segment(table: Any, data: bytes) -> Segment:
    """Of rows in their order, at least one."""
    positions = (table.column("position")[0].as_py(), table.column("position")[-1].as_py())
    digest = hashlib.sha256(data).hexdigest()
    place = "_".join(f"{major:015d}-{minor:06d}" for major, minor in map(order, positions))
    times = table.column("time")
    oldest_text = pc.min(times.filter(with_text(table))).as_py()
    return Segment(
        f"{place}_{len(table)}_{digest[:12]}",
        len(table),
        digest,
        *positions,
        oldest=pc.min(times).as_py(),
        oldest_text=-1.0 if oldest_text is None else oldest_text,
    )


class Archive:
    """Segments on a shelf. ``place``: a folder, or a URL that fsspec knows; for those ``turn`` says how writers take
    turns, and without it the archive is only read.
    """

    def __init__(self, place: Path | str, turn: Turn | None = None) -> None:
        self._place, self._shelf = str(place), shelf_of(place, turn)

    def write(self, entries: Sequence[Entry]) -> Segment | None:
        """Durable when it returns: only then may the entries be acknowledged. None when there are none."""
        if not entries:
            return None
        with self._shelf.turn() as check:
            return self._write(table_of(entries), check)

    def _write(self, table: Any, check: Check) -> Segment:
        """Rows in any order; of those at one position the last."""
        table = ordered(table)
        data = _parquet(table)
        segment = _segment(table, data)
        self._shelf.write(f"{segment.name}.parquet", data)
        check()
        self._shelf.write(f"{segment.name}.json", orjson.dumps(asdict(segment)))
        return segment

    def segments(self) -> list[Segment]:
        """Oldest first. One listing, and one reading of each manifest that this process has not read yet."""
        found = []
        for name in self._shelf.names():
            if not name.endswith(".json"):
                continue
            try:
                found.append(self._manifest(name))
            except FileNotFoundError:  # merged or rewritten just now
                continue
            except (orjson.JSONDecodeError, TypeError) as error:
                raise InvalidRecord(name, f"is no manifest of a segment ({error})") from error
        return sorted(found, key=lambda segment: (order(segment.first), order(segment.last), segment.name))

    def _manifest(self, name: str) -> Segment:
        known = _known.get((self._place, name))
        if known is None:
            told = orjson.loads(self._shelf.read(name))
            known = Segment(**{field: value for field, value in told.items() if field in _FIELDS})
            if len(name.split("_")) == _PARTS:  # older names may come to have other bytes
                _known[self._place, name] = known
                if len(_known) > KNOWN:
                    _known.pop(next(iter(_known)), None)
        return known

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
        for segment in self._each(floor):
            try:
                table = self._read(segment, columns)
            except FileNotFoundError:  # merged or rewritten since it was listed: the next look finds it
                continue
            if until_position is not None and order(segment.last) > order(until_position):
                table = up_to(table, order(until_position))
            yield of_kinds(table, kinds).select(columns or SCHEMA.names)

    def _each(self, floor: tuple[int, int] = (-1, -1)) -> Iterator[Segment]:
        """Every segment that reaches beyond ``floor``; those that come while others are read as well."""
        done: set[str] = set()
        while waiting := [s for s in self.segments() if s.name not in done and order(s.last) > floor]:
            for segment in waiting:
                done.add(segment.name)
                yield segment

    def _read(self, segment: Segment, columns: Sequence[str] | None = None) -> Any:
        """``columns``, kind and position (None: all), whatever they were when the segment was written."""
        data = self._shelf.read(f"{segment.name}.parquet")
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
        with self._shelf.turn() as check:
            for run in _runs(self.segments(), small, most):
                merged = self._write(pa.concat_tables(map(self._read, run)), check)
                gone += self._remove([segment for segment in run if segment.name != merged.name], check)
            self._remove_orphans(check)
        return gone

    def of_subject(self, subject: str, kinds: Collection[str] | None = None) -> Iterator[Entry]:
        """What the subject said and was served, every event once, of ``kinds`` (None: all)."""
        seen: set[str] = set()
        for segment in self._each():
            try:
                if not self._holds(segment, subject):
                    continue
                table = self._read(segment)
            except FileNotFoundError:  # as above
                continue
            mine = of_kinds(table.filter(pc.equal(table.column("subject"), subject)), kinds)
            for entry in entries_of(mine):
                if entry.event.event_id not in seen:
                    seen.add(entry.event.event_id)
                    yield entry

    def _holds(self, segment: Segment, subject: str) -> bool:
        """Whether its name is in a body: as the subject, or as the author of a prompt."""
        return bool(pc.any(_naming(self._read(segment, ["body"]), subject)).as_py())

    def forget(self, subject: str, before: float = float("inf")) -> int:
        """Rewrite every segment that holds events of the subject from up to ``before`` (Unix seconds) without
        them; returns how many events went. Safe to repeat after a crash.
        """

        def kept(event: Event) -> Event | None:
            return None if belongs(event, subject, before) else event

        return self._rewrite(
            lambda segment: self._holds(segment, subject), lambda table: _naming(table, subject), kept
        )

    def retain(self, before: float, texts_before: float) -> int:
        """Drop what is older than ``before``, and the texts of what is older than ``texts_before`` (Unix seconds);
        returns how many events went or lost their texts. Reads only segments that hold any.
        """

        def holds(segment: Segment) -> bool:
            if segment.oldest is None or segment.oldest_text is None:
                return True
            return segment.oldest < before or 0 <= segment.oldest_text < texts_before

        def kept(event: Event) -> Event | None:
            if event.time < before:
                return None
            return without_text(event) if event.time < texts_before and has_text(event) else event

        return self._rewrite(
            holds, lambda table: pc.less(table.column("time"), max(before, texts_before)), kept
        )

    def _rewrite(
        self,
        holds: Callable[[Segment], bool],
        concerned: Callable[[Any], Any],
        keep: Callable[[Event], Event | None],
    ) -> int:
        """The segments that ``holds`` names: of their rows that are ``concerned`` what ``keep`` makes of the event
        (None: nothing), the others as they are.
        """
        changed = 0
        if not self._shelf.names():
            return 0
        with self._shelf.turn() as check:
            for segment in filter(holds, self.segments()):
                table = self._read(segment)
                looked_at = concerned(table)
                made = [(entry, keep(entry.event)) for entry in entries_of(table.filter(looked_at))]
                other = sum(event is not entry.event for entry, event in made)
                if other:
                    changed += other
                    kept = [Entry(entry.position, event) for entry, event in made if event is not None]
                    left = pa.concat_tables([table.filter(pc.invert(looked_at)), table_of(kept)])
                    if len(left):
                        self._write(left, check)
                    self._remove([segment], check)
            self._remove_orphans(check)
        return changed

    def _remove(self, segments: Sequence[Segment], check: Check) -> int:
        """The manifest first: a file without one is not there."""
        check()
        for suffix in ("json", "parquet"):
            self._shelf.remove([f"{segment.name}.{suffix}" for segment in segments])
        return len(segments)

    def _remove_orphans(self, check: Check) -> None:
        """What a crash left: files without a manifest, and drafts. Nobody else writes now, it is our turn."""
        names = self._shelf.names()
        whole = {name.removesuffix(".json") for name in names if name.endswith(".json")}
        drafts = [name for name in names if name.startswith(".") and name.endswith(DRAFT)]
        files = [name for name in names if name.endswith(".parquet") and not name.startswith(".")]
        check()
        self._shelf.remove([*drafts, *(name for name in files if name.removesuffix(".parquet") not in whole)])


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


def _naming(table: Any, subject: str) -> Any:
    """Which rows have the subject's name in their body, in whatever part of it."""
    return pc.match_substring(table.column("body"), subject)


def _parquet(table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
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
