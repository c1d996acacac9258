"""The archive through crashes, overlaps, merges and forgetting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feedback.archive import Archive
from feedback.columns import SCHEMA, entries_of
from feedback.durable import write_durably
from feedback.errors import InvalidRecord
from feedback.events import Event, Vote
from feedback.memory import MemoryEventLog
from feedback.protocols import Entry
from tests.contract.making import response, vote


def entries(start: int, stop: int, subject: str = "s1") -> list[Entry]:
    return [Entry(f"{1000 + n}-0", response(f"r{n}", subject)) for n in range(start, stop)]


def ids(archive: Archive) -> list[str]:
    return [entry.event.event_id for entry in archive.events()]


def test_what_is_written_reads_back_the_same_and_in_order(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    written = [*entries(0, 3), Entry("1003-1", vote("r1", "up", 2.0, comment="é"))]
    segment = archive.write(list(reversed(written)))
    assert segment is not None
    assert (segment.events, segment.first, segment.last) == (4, "1000-0", "1003-1")
    assert list(archive.events()) == written
    assert archive.segments() == [segment]


def test_nothing_writes_nothing(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "archive")
    assert archive.write([]) is None
    assert archive.segments() == []
    assert list(archive.events()) == []


def test_the_columns_are_those_of_the_contract(tmp_path: Path) -> None:
    segment = Archive(tmp_path).write([Entry("5-0", vote("r1", "up", 2.5))])
    assert segment is not None
    table = pq.read_table(tmp_path / f"{segment.name}.parquet")
    assert table.schema.equals(SCHEMA)
    row = table.to_pylist()[0]
    assert (row["kind"], row["alias"], row["subject"], row["time"], row["position"]) == (
        "vote",
        None,
        "s1",
        2.5,
        "5-0",
    )


def test_a_file_without_a_manifest_is_not_there(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    segment = archive.write(entries(0, 3))
    assert segment is not None
    (tmp_path / f"{segment.name}.json").unlink()
    assert ids(archive) == []
    again = archive.write(entries(0, 3))
    assert again == segment
    assert ids(archive) == ["r0", "r1", "r2"]


@pytest.mark.parametrize("call", [1, 2])
def test_a_crash_at_either_write_loses_nothing_once_the_entries_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    archive, calls = Archive(tmp_path), []

    def crash(path: Path, data: bytes) -> None:
        calls.append(path)
        if len(calls) == call:
            raise OSError("power cut")
        write_durably(path, data)

    with monkeypatch.context() as patch:
        patch.setattr("feedback.shelf.write_durably", crash)
        with pytest.raises(OSError, match="power cut"):
            archive.write(entries(0, 3))
    assert ids(archive) == []
    archive.write(entries(0, 3))
    assert ids(archive) == ["r0", "r1", "r2"]


def test_a_worker_that_dies_before_acknowledging_leaves_no_event_twice(tmp_path: Path) -> None:
    archive, log = Archive(tmp_path), MemoryEventLog()
    log.append([response(f"r{n}") for n in range(5)])
    archive.write(log.claim("dies", 3))
    claimed = log.claim("next", 5, idle_seconds=0.0)
    archive.write(claimed)
    log.ack([entry.position for entry in claimed])
    assert ids(archive) == [f"r{n}" for n in range(5)]
    assert len(archive.segments()) == 2
    assert log.trim() == 5


def test_reading_goes_on_after_a_position(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for start in (0, 3):
        archive.write(entries(start, start + 3))
    assert [entry.position for entry in archive.events(since_position="1001-0")] == [
        "1002-0",
        "1003-0",
        "1004-0",
        "1005-0",
    ]
    assert list(archive.events(since_position="1005-0")) == []


def test_positions_are_ordered_as_numbers(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.write([Entry("1000-10", response("late")), Entry("1000-9", response("early"))])
    archive.write([Entry("999-0", response("first"))])
    assert ids(archive) == ["first", "early", "late"]


def test_only_the_kinds_asked_for_are_read(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.write([*entries(0, 2), Entry("1009-0", vote("r1", "up", 2.0))])
    kinds = [type(entry.event).__name__ for entry in archive.events(kinds=["vote"])]
    assert kinds == ["Vote"]


def test_a_damaged_segment_is_named_and_not_read(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    segment = archive.write(entries(0, 3))
    assert segment is not None
    path = tmp_path / f"{segment.name}.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidRecord, match=segment.name):
        list(archive.events())


def test_a_manifest_that_does_not_parse_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(orjson.dumps({"name": "x"}))
    with pytest.raises(InvalidRecord, match=r"x\.json"):
        Archive(tmp_path).segments()


def test_many_small_segments_become_few_and_the_events_stay(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for n in range(10):
        archive.write(entries(10 * n, 10 * n + 10))
    before = ids(archive)
    assert archive.compact(small=20, most=50) == 10
    assert [segment.events for segment in archive.segments()] == [50, 50]
    assert ids(archive) == before
    assert archive.compact(small=20, most=50) == 0
    assert len(list(tmp_path.glob("*.parquet"))) == 2


def test_overlapping_segments_are_merged_without_doubles(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.write(entries(0, 3))
    archive.write(entries(0, 5))
    archive.compact()
    assert [segment.events for segment in archive.segments()] == [5]
    assert ids(archive) == [f"r{n}" for n in range(5)]


def test_a_reader_in_the_middle_of_a_merge_reads_every_event_once(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    for n in range(4):
        archive.write(entries(2 * n, 2 * n + 2))
    reading = archive.events()
    read = [next(reading).event.event_id]
    archive.compact()
    read += [entry.event.event_id for entry in reading]
    assert sorted(read) == [f"r{n}" for n in range(8)]


def test_a_crash_in_a_merge_leaves_every_event_once_for_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(tmp_path)
    for n in range(3):
        archive.write(entries(2 * n, 2 * n + 2))

    def crash(*_: object) -> int:
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(Archive, "_remove", crash)
        with pytest.raises(OSError, match="power cut"):
            archive.compact()
    assert ids(archive) == [f"r{n}" for n in range(6)]


def test_a_forgotten_subject_is_in_no_file_any_more(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.write([*entries(0, 2, "s-gone"), *entries(2, 4)])
    archive.write(entries(4, 6, "s-gone"))
    archive.write(entries(6, 8))
    orphan = archive.write(entries(8, 9, "s-gone"))
    assert orphan is not None
    (tmp_path / f"{orphan.name}.json").unlink()
    untouched = archive.segments()[2]
    assert archive.forget("s-gone") == 4
    assert ids(archive) == ["r2", "r3", "r6", "r7"]
    assert untouched in archive.segments()
    subjects = {s for f in tmp_path.glob("*.parquet") for s in pq.read_table(f).column("subject").to_pylist()}
    assert subjects == {"s1"}
    assert archive.forget("s-gone") == 0


def test_what_a_forgotten_subject_said_later_stays(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    said: list[Event] = [response("old", "s-gone", time=10.0), response("new", "s-gone", time=30.0)]
    archive.write([Entry(f"{n}-0", event) for n, event in enumerate(said)])
    assert archive.forget("s-gone", before=20.0) == 1
    assert ids(archive) == ["new"]


def test_only_the_events_that_name_the_subject_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = Archive(tmp_path)
    said = [*entries(0, 40), *entries(40, 42, "s-gone"), *entries(42, 80)]
    archive.write(said)
    decoded = list[str]()

    def noting(table: pa.Table) -> Iterator[Entry]:
        for entry in entries_of(table):
            decoded.append(entry.event.event_id)
            yield entry

    with monkeypatch.context() as patch:
        patch.setattr("feedback.archive.entries_of", noting)
        assert archive.forget("s-gone") == 2
    assert decoded == ["r40", "r41"]
    assert list(archive.events()) == [*said[:40], *said[42:]]
    fresh = Archive(tmp_path / "fresh").write([*said[:40], *said[42:]])
    assert archive.segments() == [fresh]  # the bytes too are those of an archive that never held them


def test_a_prompt_that_the_forgotten_wrote_for_raters_goes_and_what_only_quotes_the_name_stays(
    tmp_path: Path,
) -> None:
    archive = Archive(tmp_path)
    said = [
        response("shown", "s1", author="s-gone"),
        vote("r1", "up", 2.0, comment="about s-gone"),
        response("r1"),
    ]
    archive.write([Entry(f"{n}-0", event) for n, event in enumerate(said)])
    assert archive.forget("s-gone") == 1
    assert [entry.event for entry in archive.events()] == said[1:]


def test_forgetting_in_an_archive_that_does_not_exist_is_nothing(tmp_path: Path) -> None:
    assert Archive(tmp_path / "none").forget("s1") == 0


def test_old_events_go_and_old_texts_go_earlier(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    said: list[Event] = [
        response("old", time=10.0),
        response("older text", time=20.0),
        vote("old", "up", 21.0, comment="private", correction="secret", reasons=("tone",)),
        response("new", time=30.0),
    ]
    archive.write([Entry(f"{n}-0", event) for n, event in enumerate(said)])
    fresh = archive.write([Entry("9-0", response("newest", time=40.0))])
    assert archive.retain(before=15.0, texts_before=25.0) == 3
    kept = {entry.event.event_id: entry.event for entry in archive.events()}
    assert next(iter(kept)) == "older text"
    assert kept["older text"] == response("older text", time=20.0, messages=(), text="")
    assert kept["new"] == said[3]
    found = next(event for event in kept.values() if isinstance(event, Vote))
    assert (found.rating, found.reasons, found.comment, found.correction) == ("up", ("tone",), None, None)
    assert fresh in archive.segments()
    assert archive.retain(before=15.0, texts_before=25.0) == 0
    assert archive.retain(before=50.0, texts_before=50.0) == 4
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_segments_from_before_their_times_were_noted_are_looked_into(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    segment = archive.write([Entry("1-0", response("old", time=10.0))])
    assert segment is not None
    manifest = {name: getattr(segment, name) for name in ("events", "sha256", "first", "last")}
    (tmp_path / f"{segment.name}.json").unlink()
    (tmp_path / f"{segment.name}.parquet").rename(tmp_path / "1_1_1.parquet")
    (tmp_path / "1_1_1.json").write_bytes(orjson.dumps({"name": "1_1_1", **manifest}))
    assert ids(archive) == ["old"]
    assert archive.retain(before=20.0, texts_before=20.0) == 1
    assert ids(archive) == []


def test_all_of_a_subject_is_found_once(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    archive.write([*entries(0, 2, "s-mine"), *entries(2, 4)])
    archive.write([*entries(1, 2, "s-mine"), *entries(4, 5, "s-mine")])
    archive.write(entries(5, 7))
    assert [entry.event.event_id for entry in archive.of_subject("s-mine")] == ["r0", "r1", "r4"]
