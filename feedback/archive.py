"""The archive: immutable Parquet segments of events, each with a manifest that is written last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from feedback.events import decode, encode, kind_of
from feedback.manifest import fsync_folder, sha256_of, write_durably
from feedback.protocols import Entry

SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("kind", pa.string()),
        ("alias", pa.string()),
        ("subject", pa.string()),
        ("time", pa.float64()),
        ("position", pa.string()),
        ("body", pa.binary()),
    ]
)


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of the archive."""

    name: str
    events: int
    sha256: str
    first: str  # positions in the log
    last: str


def _order(position: str) -> tuple[int, int]:
    major, _, minor = position.partition("-")
    return int(major), int(minor or 0)


def _name(position: str) -> str:
    major, minor = _order(position)
    return f"{major:015d}-{minor:06d}"


class Archive:
    """A folder of segments. Writing the same entries again changes nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, entries: Sequence[Entry]) -> Segment | None:
        """Durable when it returns; only then may the entries be acknowledged. None when there are none."""
        if not entries:
            return None
        ordered = sorted(entries, key=lambda entry: _order(entry.position))
        first, last = ordered[0].position, ordered[-1].position
        name = f"{_name(first)}_{_name(last)}_{len(ordered)}"
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / f"{name}.parquet"
        self._write_parquet(path, ordered)
        segment = Segment(name, len(ordered), sha256_of(path), first, last)
        body = {"name": name, "events": segment.events, "sha256": segment.sha256, "first": first, "last": last}
        write_durably(self.root / f"{name}.json", orjson.dumps(body))
        return segment

    @staticmethod
    def _write_parquet(path: Path, entries: Sequence[Entry]) -> None:
        rows = [
            {
                "event_id": entry.event.event_id,
                "kind": kind_of(entry.event),
                "alias": entry.event.alias,
                "subject": entry.event.subject,
                "time": entry.event.time,
                "position": entry.position,
                "body": encode(entry.event),
            }
            for entry in entries
        ]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), sink, compression="zstd")
        write_durably(path, sink.getvalue().to_pybytes())

    def segments(self) -> list[Segment]:
        """Oldest first; files without a manifest are not there."""
        found = [Segment(**orjson.loads(path.read_bytes())) for path in self.root.glob("*.json")]
        return sorted(found, key=lambda segment: (_order(segment.first), _order(segment.last)))

    def events(self, since_position: str | None = None) -> Iterator[Entry]:
        """Every event once, in the log's order as far as segments tell."""
        seen: set[str] = set()
        floor = _order(since_position) if since_position else (-1, -1)
        for segment in self.segments():
            if _order(segment.last) <= floor:
                continue
            table = pq.read_table(self.root / f"{segment.name}.parquet", columns=["event_id", "position", "body"])
            for row in table.to_pylist():
                if row["event_id"] not in seen and _order(row["position"]) > floor:
                    seen.add(row["event_id"])
                    yield Entry(row["position"], decode(row["body"]))

    def forget(self, subject: str) -> int:
        """Rewrite every segment that holds the subject's events without them; returns how many went."""
        gone = 0
        for segment in self.segments():
            entries = [
                Entry(row["position"], decode(row["body"]))
                for row in pq.read_table(self.root / f"{segment.name}.parquet").to_pylist()
            ]
            kept = [entry for entry in entries if entry.event.subject != subject]
            if len(kept) < len(entries):
                gone += len(entries) - len(kept)
                self.write(kept)
                (self.root / f"{segment.name}.json").unlink()
                (self.root / f"{segment.name}.parquet").unlink()
                fsync_folder(self.root)
        return gone
