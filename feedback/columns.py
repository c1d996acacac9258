"""Events as columns of Parquet: what standing, joining and deduplication ask for stands in columns of its own.

The body of a response is kept without its prompt and text, which have columns: nothing is stored twice, and reading
either needs no JSON. Segments written before these columns existed hold whole bodies, and read the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import reduce
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from feedback.events import Comparison, Event, Label, Report, Response, Vote, decode, encode, kind_of
from feedback.protocols import Entry

SCHEMA = pa.schema(
    [
        ("event_id", pa.string()),
        ("kind", pa.string()),
        ("alias", pa.string()),  # null: the store was away when the vote came
        ("subject", pa.string()),
        ("time", pa.float64()),  # Unix seconds
        ("position", pa.string()),  # in the log
        ("voice", pa.string()),  # feedback or report id: of one voice the newest stands; null: a response
        ("response_id", pa.string()),  # null: a comparison
        ("rating", pa.string()),  # "up", "down"; a report's verdict; "both_bad"; null: taken back, open, none
        ("detail", pa.string()),  # JSON: the ranking of a comparison, the scores of a label; null: neither
        ("reasons", pa.string()),  # JSON list; null: none
        ("correction", pa.string()),
        ("stored", pa.bool_()),  # of a response; null: something else
        ("adapter", pa.string()),  # that a response is from; null: something else
        ("messages", pa.string()),  # JSON: the prompt of a response; null: something else
        ("text", pa.string()),  # of a response; null: something else
        ("body", pa.binary()),  # the event as JSON, a response's without messages and text
    ]
)
_OLD = ("event_id", "kind", "alias", "subject", "time", "position", "body")
_OWN = tuple(name for name in SCHEMA.names if name not in _OLD)
_APART = ("messages", "text")  # of a response's body


def table_of(entries: Iterable[Entry]) -> Any:
    """A table of SCHEMA, a row an entry, in their order."""
    columns = list(zip(*(_row(entry) for entry in entries), strict=True)) or [()] * len(SCHEMA)
    return pa.table(
        [pa.array(values, kind.type) for values, kind in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def upgraded(table: Any) -> Any:
    """A table of SCHEMA out of one that may have been written before its newer columns existed."""
    if set(SCHEMA.names) <= set(table.schema.names):
        return table
    rows = table.select(["position", "body"]).to_pylist()
    return table_of(Entry(row["position"], decode(row["body"])) for row in rows)


def entries_of(table: Any) -> Iterator[Entry]:
    """The entries of a table of SCHEMA. Raises InvalidRecord for a body that is no event."""
    for row in table.select(["position", "body", *_APART]).to_pylist():
        yield Entry(row["position"], decode(_whole(row["body"], row["messages"], row["text"])))


def of_kinds(table: Any, kinds: Collection[str] | None) -> Any:
    """Only the rows of ``kinds``; None: all."""
    if kinds is None:
        return table
    return table.filter(pc.is_in(table.column("kind"), pa.array(sorted(kinds), pa.string())))


def array_of(column: Any) -> Any:
    """A column as one array, copied only where it is in several."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def up_to(table: Any, position: tuple[int, int]) -> Any:
    """Only the rows at positions up to this one."""
    place = moments(table.column("position"))
    before = (place[:, 0] < position[0]) | ((place[:, 0] == position[0]) & (place[:, 1] <= position[1]))
    return table.filter(pa.array(before))


def ordered(table: Any) -> Any:
    """In the order of the log, of rows at one position the last, and each column as one array: the same rows make the
    same file.
    """
    place = moments(table.column("position"))
    order = np.lexsort((place[:, 1], place[:, 0]))  # keeps the order of equals
    last = np.ones(len(order), dtype=bool)
    last[:-1] = (place[order[1:]] != place[order[:-1]]).any(axis=1)
    return table.take(pa.array(order[last])).combine_chunks()


def with_text(table: Any) -> Any:
    """Which rows hold anything that somebody wrote or was answered: ``feedback.texts.has_text`` without decoding."""
    words = [
        pc.not_equal(table.column("messages"), "[]"),
        pc.not_equal(table.column("text"), ""),
        pc.not_equal(table.column("correction"), ""),
        pc.match_substring_regex(table.column("body"), r'[{,]"comment":"[^"]'),
    ]
    return reduce(pc.or_, [pc.fill_null(mask, False) for mask in words])


def moments(positions: Any) -> Any:
    """Positions of the log as an array (n, 2) of numbers that sort as they do."""
    parts = pc.split_pattern(positions, "-", max_splits=1)
    if not len(positions) or pc.all(pc.equal(pc.list_value_length(parts), 2)).as_py():
        return pc.list_flatten(parts).cast(pa.int64()).to_numpy().reshape(-1, 2)
    told = (position.partition("-") for position in positions.to_pylist())
    return np.array([(int(major), int(minor or 0)) for major, _, minor in told], dtype=np.int64)


def _whole(body: bytes, messages: str | None, text: str | None) -> bytes:
    if messages is None:
        return body
    return b"%b,%b:%b,%b:%b}" % (body[:-1], b'"messages"', messages.encode(), b'"text"', orjson.dumps(text))


def _row(entry: Entry) -> Sequence[Any]:
    event = entry.event
    apart = _APART if isinstance(event, Response) else ()
    return (
        event.event_id,
        kind_of(event),
        event.alias,
        event.subject,
        event.time,
        entry.position,
        *_own(event),
        encode(event, apart),
    )


def _own(event: Event) -> Sequence[Any]:
    """The columns of ``_OWN``, in their order."""
    if isinstance(event, Response):
        messages = orjson.dumps(event.messages).decode()
        return (
            None, event.response_id, None, None, None, None, event.stored, event.adapter, messages, event.text
        )  # fmt: skip
    voice = event.report_id if isinstance(event, Report) else event.feedback_id
    rating: str | None = None
    detail = reasons = correction = None
    if isinstance(event, Vote):
        rating, correction, reasons = event.rating, event.correction, _listed(event.reasons)
    elif isinstance(event, Comparison):
        rating, detail = "both_bad" if event.both_bad else None, orjson.dumps(event.ranking).decode()
        reasons = _listed(event.reasons)
    elif isinstance(event, Label):
        detail = orjson.dumps(event.labels, option=orjson.OPT_SORT_KEYS).decode()
    else:
        rating = event.verdict
    on = None if isinstance(event, Comparison) else event.response_id
    return voice, on, rating, detail, reasons, correction, None, None, None, None


def _listed(reasons: Sequence[str]) -> str | None:
    return orjson.dumps(reasons).decode() if reasons else None
