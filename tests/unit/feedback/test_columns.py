"""Events as columns: nothing is lost, nothing stored twice, and what was written before reads the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from feedback.archive import Archive
from feedback.columns import SCHEMA, entries_of, of_kinds, ordered, table_of, upgraded, with_text
from feedback.events import encode, kind_of
from feedback.protocols import Entry
from feedback.texts import has_text
from tests.contract.making import comparison, label, report, response, vote

EVENTS = [
    response("r1", adapter="a-1", text='é "quoted"\n\u2028', sampling={"top_p": 0.5}),
    response("r2", stored=False, messages=(), text=""),
    vote("r1", "down", 2.0, reasons=("tone", "é"), correction="better", comment="hm"),
    vote("r1", None, 3.0),
    comparison(("r1", "r3"), ("r2",)),
    comparison(("r1", "r2"), both_bad=True),
    label("r1", {"tone": 0.5, "brevity": 1.0}, 4.0),
    report("rp-1", "r1", verdict="upheld"),
]
ENTRIES = [Entry(f"{100 + place}-{place}", event) for place, event in enumerate(EVENTS)]


def old(entries: list[Entry]) -> pa.Table:
    """As segments were before the columns of standing and joining existed."""
    told = [
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
    return pa.Table.from_pylist(told)


def test_every_event_comes_back_as_it_was() -> None:
    table = table_of(ENTRIES)
    assert table.schema.equals(SCHEMA)
    assert list(entries_of(table)) == ENTRIES
    assert list(entries_of(table_of([]))) == []


def test_what_the_columns_say() -> None:
    rows = table_of(ENTRIES).select(["response_id", "rating", "detail", "reasons", "stored"]).to_pylist()
    assert [list(row.values()) for row in rows] == [
        ["r1", None, None, None, True],
        ["r2", None, None, None, False],
        ["r1", "down", None, '["tone","é"]', None],
        ["r1", None, None, None, None],
        [None, None, '[["r1","r3"],["r2"]]', None, None],
        [None, "both_bad", '[["r1","r2"]]', None, None],
        ["r1", None, '{"brevity":1.0,"tone":0.5}', None, None],
        ["r1", "upheld", None, None, None],
    ]


def test_a_prompt_and_a_text_are_kept_once() -> None:
    row = table_of(ENTRIES).to_pylist()[0]
    assert (row["messages"], row["text"]) == (
        '[{"role":"user","content":"asked r1"}]',
        'é "quoted"\n\u2028',
    )
    assert set(orjson.loads(row["body"])).isdisjoint({"messages", "text"})


def test_which_rows_hold_text_is_told_as_of_the_events() -> None:
    quoting = [
        vote("r2", "up", 2.0, comment='"', reasons=('"comment":"',)),
        vote("r3", "up", 2.0, reasons=('"comment":"x',)),
        comparison(("r5",), ("r6",), comment="c"),
        response("r7", text=""),
        response("r8", messages=()),
        response("r9", messages=(), text="", sampling={"stop": ['{"comment":"x"}']}),
    ]
    events = [*EVENTS, *quoting]
    told = with_text(table_of(Entry(f"{place}-0", event) for place, event in enumerate(events)))
    assert told.to_pylist() == [has_text(event) for event in events]
    assert sorted(set(told.to_pylist()), reverse=True) == [True, False]


def test_rows_are_put_in_the_logs_order_and_the_last_of_a_position_stays() -> None:
    shuffled = [Entry(position, response(name)) for position, name in [
        ("10-0", "d"), ("9-10", "c"), ("9-2", "old"), ("9-2", "b"), ("8", "a")
    ]]  # fmt: skip
    one = ordered(table_of(shuffled))
    assert one.column("event_id").to_pylist() == ["a", "b", "c", "d"]
    in_parts = pa.concat_tables([table_of([entry]) for entry in shuffled])
    assert ordered(in_parts).column("body").num_chunks == one.column("body").num_chunks == 1
    assert ordered(in_parts).equals(one)
    assert len(ordered(table_of([]))) == 0


def test_segments_of_before_are_upgraded_when_they_are_read(tmp_path: Path) -> None:
    assert upgraded(old(ENTRIES)).equals(table_of(ENTRIES))
    archive = Archive(tmp_path)
    segment = archive.write(ENTRIES[:3])
    assert segment is not None
    path = tmp_path / f"{segment.name}.parquet"
    pq.write_table(old(ENTRIES[:3]), path)
    manifest = tmp_path / f"{segment.name}.json"
    told = orjson.loads(manifest.read_bytes())
    manifest.write_bytes(orjson.dumps({**told, "sha256": _sha256(path)}))
    archive.write(ENTRIES[3:])
    assert list(archive.events()) == ENTRIES
    read = pa.concat_tables(archive.tables(["rating", "voice"], kinds=["vote"]))
    assert read.equals(of_kinds(table_of(ENTRIES), ["vote"]).select(["rating", "voice"]))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
