"""What stands, joined with the replies it is about: the one way from events to what is trained on or exported.

A saying counts when its reply is known, is stored, was given to the same subject, and belongs to the alias. A reply
that is left out takes every copy of the same text to the same prompt with it. Which event came first does not matter.

Texts are read last, and only those that are asked about: memory holds the columns of what was said, and one part's
texts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feedback.columns import array_of, of_kinds, table_of
from feedback.events import Event
from feedback.protocols import Entry
from feedback.standing import COLUMNS, SAID, Standing, codes_of, standing

FEW = 4
"""Who ask the same: a prompt of more is nobody's own words, and would stay when one of them is forgotten."""
_KNOWN = ("response_id", "alias", "subject", "stored")
_TEXTS = ("response_id", "alias", "subject", "time", "stored", "adapter", "messages", "text")
_ASKED = ["messages", "subject", "time"]
_REPLIES = ("response_id", "adapter", "messages", "text")


class Source(Protocol):
    """Where events come from, as tables of ``feedback.columns.SCHEMA``; the archive is one."""

    def tables(
        self, columns: Sequence[str] | None = None, kinds: Collection[str] | None = None
    ) -> Iterable[Any]: ...


class Events:
    """Events in memory, in the order in which they came."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._table = table_of(Entry(f"{place}-0", event) for place, event in enumerate(events))

    def tables(
        self, columns: Sequence[str] | None = None, kinds: Collection[str] | None = None
    ) -> Iterable[Any]:
        """One table."""
        return [of_kinds(self._table, kinds).select(columns or self._table.schema.names)]


@dataclass(frozen=True, slots=True)
class Joined:
    """Sayings and their replies, oldest first; ``reply``, ``a`` and ``b`` are rows of ``replies``."""

    votes: Any  # event_id, subject, time, rating, reasons, correction (null: none, or what was said anyway), reply
    pairs: Any  # event_id, subject, time, rating, reasons, a, b: every two replies once a subject
    labels: Any  # event_id, subject, time, detail, reply
    replies: Any  # response_id, adapter, messages, text
    prompts: Any  # messages: the newest distinct prompts, in the order in which they were last asked
    askers: Any  # array of the subjects who asked those of them that no more than FEW have asked


def counting(source: Source, alias: str | None = None, since: float | None = None) -> Standing:
    """What stands in ``source``, was said after ``since`` (Unix seconds) and is about replies that may be used, as far
    as that can be told without their texts. Raises InvalidRecord where the source is damaged.
    """
    found = standing(source.tables(COLUMNS, SAID))
    if since is not None:
        found = _each(found, lambda table, _: table.filter(pc.greater(table.column("time"), since)))
    wanted = set(_asked_about(found).to_pylist())
    parts = [
        table.filter(pc.and_(_usable(table, alias), _among(table, wanted)))
        for table in source.tables(_KNOWN, ("response",))
    ]
    empty = pa.table({name: pa.array([], pa.string()) for name in _KNOWN[:3]})
    known = pa.concat_tables([empty, *(table.select(_KNOWN[:3]) for table in parts)]).combine_chunks()
    known = known.filter(pc.invert(pc.is_in(known.column("response_id"), found.left_out)))
    pairs = _given(_given(found.pairs, known, "a"), known, "b")
    about = pc.is_in(found.labels.column("response_id"), known.column("response_id").combine_chunks())
    return Standing(
        _given(found.votes, known, "response_id"), pairs, found.labels.filter(about), found.left_out
    )


def part(found: Standing, begin: int, end: int) -> Standing:
    """The sayings from ``begin`` to before ``end``, oldest first; of a ranking each two replies are one saying."""
    tables = _tables(found)
    times = np.concatenate([table.column("time").to_numpy() for table in tables])
    chosen = np.zeros(len(times), dtype=bool)
    chosen[np.argsort(times, kind="stable")[begin:end]] = True
    own = np.split(chosen, np.cumsum([len(table) for table in tables]))
    return _each(found, lambda table, number: table.filter(pa.array(own[number])))


def joined(source: Source, found: Standing, alias: str | None = None, prompts: int = 0) -> Joined:
    """``found`` with its texts, and the alias's ``prompts`` newest prompts, none of a reply that is left out."""
    wanted = set(_asked_about(found).to_pylist())
    taken = [pa.table({name: pa.array([], pa.string()) for name in _REPLIES})]
    asked: list[Any] = []
    most = 2 * prompts  # rows before they are put together
    for table in source.tables(_TEXTS, ("response",)):
        whole = table.filter(_whole(table))
        taken.append(whole.filter(_among(whole, wanted)).select(_REPLIES))
        if prompts:
            asked.append(_last_asked([whole.filter(_usable(whole, alias))], prompts))
            if sum(len(one) for one in asked) > most:
                asked = [_last_asked(asked, prompts)]
                most = 2 * max(prompts, len(asked[0]))
    replies, left_out = _replies(pa.concat_tables(taken).combine_chunks(), found.left_out)
    del taken
    newest = _last_asked(asked, prompts) if asked else None
    if newest is not None:
        newest = newest.filter(pc.invert(pc.is_in(newest.column("messages"), left_out)))
    votes = _about(found.votes, replies, {"response_id": "reply"})
    return Joined(
        votes=votes.set_column(
            votes.schema.get_field_index("correction"), "correction", _said(votes, replies)
        ),
        pairs=_two_replies(_about(found.pairs, replies, {"a": "a", "b": "b"}), replies),
        labels=_about(found.labels, replies, {"response_id": "reply"}),
        replies=replies,
        prompts=_distinct(newest) if newest is not None else pa.chunked_array([], pa.string()),
        askers=_askers(newest) if newest is not None else pa.array([], pa.string()),
    )


def _tables(found: Standing) -> tuple[Any, Any, Any]:
    return found.votes, found.pairs, found.labels


def _each(found: Standing, change: Callable[[Any, int], Any]) -> Standing:
    votes, pairs, labels = (change(table, number) for number, table in enumerate(_tables(found)))
    return Standing(votes, pairs, labels, found.left_out)


def _asked_about(found: Standing) -> Any:
    """Array of the ids of all replies that sayings or reports are about."""
    columns = [found.votes.column("response_id"), found.labels.column("response_id")]
    columns += [found.pairs.column(side) for side in "ab"]
    chunks = [chunk for column in columns for chunk in column.chunks]
    return pc.unique(pa.chunked_array([*chunks, found.left_out], pa.string()))


def _usable(table: Any, alias: str | None) -> Any:
    stored = table.column("stored")
    return stored if alias is None else pc.and_(stored, pc.equal(table.column("alias"), alias))


def _among(table: Any, ids: AbstractSet[str]) -> Any:
    """Which rows are of a response in ``ids``: a set that is made once, where Arrow would make one for each segment."""
    names = table.column("response_id").to_pylist()
    return pa.array(np.fromiter(map(ids.__contains__, names), bool, len(names)))


def _whole(table: Any) -> Any:
    said = pc.and_(pc.not_equal(table.column("messages"), "[]"), pc.not_equal(table.column("text"), ""))
    return pc.and_(table.column("stored"), said)


def _given(said: Any, known: Any, column: str) -> Any:
    """Only what its own reply's subject said."""
    row = pc.index_in(said.column(column), known.column("response_id").combine_chunks())
    return said.filter(
        pc.fill_null(pc.equal(known.column("subject").take(row), said.column("subject")), False)
    )


def _last_asked(tables: Sequence[Any], most: int) -> Any:
    """The newest ``most`` distinct prompts of ``tables``, who asked each and when last, whatever the tables' order; the
    prompt that was asked last comes last.
    """
    asked = _latest(pa.concat_tables([table.select(_ASKED) for table in tables]), ["messages", "subject"])
    order = [("time", "ascending"), ("messages", "ascending")]
    prompts = _latest(asked, ["messages"]).sort_by(order)
    place = pc.index_in(
        asked.column("messages"), array_of(prompts.column("messages").slice(max(0, len(prompts) - most)))
    )
    asked = asked.append_column("place", place).filter(pc.is_valid(place))
    return asked.sort_by([("place", "ascending"), ("subject", "ascending")]).select(_ASKED)


def _latest(asked: Any, by: list[str]) -> Any:
    """Each once, and when last."""
    return (
        asked.group_by(by)
        .aggregate([("time", "max")])
        .select([*by, "time_max"])
        .rename_columns([*by, "time"])
    )


def _askers(asked: Any) -> Any:
    """Of prompts that are the words of a few; what everybody asks is nobody's."""
    counts = asked.group_by("messages").aggregate([("subject", "count")])
    own = counts.filter(pc.less_equal(counts.column("subject_count"), FEW)).column("messages")
    return pc.unique(asked.filter(pc.is_in(asked.column("messages"), array_of(own))).column("subject"))


def _distinct(asked: Any) -> Any:
    """The prompts, in their order."""
    return pa.chunked_array([pc.unique(asked.column("messages"))], pa.string())


def _replies(taken: Any, left_out: Any) -> tuple[Any, Any]:
    """Every reply once, without those left out and their copies; and the prompts of those left out."""
    first = np.unique(codes_of(taken.column("response_id")), return_index=True)[1]
    if len(first) < len(taken):  # texts are copied only where they must be
        taken = taken.take(np.sort(first))
    out = pc.is_in(taken.column("response_id"), left_out).to_numpy()
    if not out.any():
        return taken, pa.array([], pa.string())
    prompts = pc.unique(taken.column("messages").filter(pa.array(out)))
    copies = np.isin(reply_codes(taken), reply_codes(taken)[out])
    return taken.filter(pa.array(~copies)), prompts


def reply_codes(replies: Any) -> Any:
    """(n,) numbers, the same for the same text to the same prompt."""
    prompt, text = codes_of(replies.column("messages")), codes_of(replies.column("text"))
    return prompt.astype(np.int64) * (text.max(initial=0) + 1) + text


def _about(said: Any, replies: Any, columns: dict[str, str]) -> Any:
    """With the row of each reply instead of its id, without the alias and what has no reply."""
    ids = array_of(replies.column("response_id"))
    kept = said.drop_columns(["alias"])
    for column, name in columns.items():
        row = pc.index_in(kept.column(column), ids)
        kept = kept.set_column(kept.schema.get_field_index(column), name, row)
        kept = kept.filter(pc.is_valid(row))
    return kept


def _two_replies(pairs: Any, replies: Any) -> Any:
    """Only pairs of replies to one prompt; a win or tie of two like texts tells nothing."""
    prompt, text = codes_of(replies.column("messages")), codes_of(replies.column("text"))
    a, b = (pairs.column(side).to_numpy() for side in "ab")
    bad = pc.equal(pairs.column("rating"), "both_bad").to_numpy()
    return pairs.filter(pa.array((prompt[a] == prompt[b]) & ((text[a] != text[b]) | bad)))


def _said(votes: Any, replies: Any) -> Any:
    """The corrections, stripped; null where they repeat the reply or say nothing."""
    given = votes.column("correction")
    where = np.flatnonzero(pc.is_valid(given).to_numpy())
    texts = replies.column("text").take(votes.column("reply").take(where)).to_pylist()
    told = np.full(len(votes), None, dtype=object)
    for row, text, correction in zip(where, texts, given.take(where).to_pylist(), strict=True):
        said = correction.strip()
        told[row] = said if said not in ("", text.strip()) else None
    return pa.array(told, pa.string())
