"""What was said, as rows that can be learnt from: which criteria are heard, and what each saying counts.

A vote whose reasons name criteria of the alias is about these in equal parts, any other about ``overall``; reasons
that are no criterion are not heard, and what is about a criterion of weight 0 does not count. How much the others
weigh is the reward model's matter (``criteria``). A label is a thumb for each criterion, the surer the heavier. A
correction beats what it corrects. A ranking is one saying: the root of the number of its pairs parts the weight
among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from feedback.joined import Joined
from feedback.standing import codes_of
from training.examples import OVERALL

SAYINGS = pa.schema(
    [
        ("kind", pa.string()),  # "pair", "thumb"
        ("event_id", pa.string()),
        ("subject", pa.string()),
        ("time", pa.float64()),
        ("said", pa.string()),  # "win" (of a), "tie", "both_bad", "up", "down"
        ("a", pa.int32()),  # row of replies; null: a correction, which stands in words
        ("b", pa.int32()),  # row of replies; null: a thumb
        ("words", pa.string()),  # a correction
        (
            "criteria",
            pa.string(),
        ),  # which it is about and that weigh anything, as a JSON list; empty: overall
        ("label", pa.string()),  # the criterion of a rater's label; null: no label
        ("weight", pa.float64()),  # > 0
    ]
)


def sayings(joined: Joined, criteria: Mapping[str, float]) -> Any:
    """A table of SAYINGS: pairs, then thumbs, each oldest first."""
    parts = [_comparisons(joined, criteria), _corrections(joined, criteria)]
    thumbs = [_thumbs(joined, criteria), _labels(joined, criteria)]
    return pa.concat_tables([_by_time(pa.concat_tables(one)) for one in (parts, thumbs)])


def _by_time(table: Any) -> Any:
    return table.take(np.argsort(table.column("time").to_numpy(), kind="stable"))


def _table(told: Any, /, **own: Any) -> Any:
    """A table of SAYINGS out of ``own`` columns, or one word for all rows, and what ``told`` has of the same names."""
    columns = []
    for field in SAYINGS:
        value = own[field.name] if field.name in own else told.column(field.name)
        if value is None or isinstance(value, str):
            value = pa.repeat(pa.scalar(value, field.type), len(told))
        columns.append(value)
    table = pa.table(columns, schema=SAYINGS)
    return table.filter(pc.greater(table.column("weight"), 0))


def _heard(said: Any, criteria: Mapping[str, float]) -> tuple[Any, Any]:
    """Per row the criteria heard that weigh anything (JSON), and their share of those heard."""
    coded = said.column("reasons").combine_chunks().dictionary_encode(null_encoding="encode")
    heard, weights = [], []
    for reasons in coded.dictionary.to_pylist():
        own = [reason for reason in (orjson.loads(reasons) if reasons else ()) if reason in criteria]
        weighing = [reason for reason in own if criteria[reason] > 0]
        heard.append(orjson.dumps(weighing).decode())
        weights.append(len(weighing) / len(own) if own else _overall(criteria))
    row = coded.indices
    return pa.array(heard, pa.string()).take(row), pa.array(weights, pa.float64()).take(row)


def _overall(criteria: Mapping[str, float]) -> float:
    """1, or 0 where what names no criterion does not count."""
    return float(criteria.get(OVERALL, 1.0) > 0)


def _thumbs(joined: Joined, criteria: Mapping[str, float]) -> Any:
    votes = joined.votes
    heard, weight = _heard(votes, criteria)
    return _table(
        votes,
        kind="thumb",
        said=votes.column("rating"),
        a=votes.column("reply"),
        b=None,
        words=None,
        criteria=heard,
        label=None,
        weight=weight,
    )


def _corrections(joined: Joined, criteria: Mapping[str, float]) -> Any:
    votes = joined.votes.filter(pc.is_valid(joined.votes.column("correction")))
    return _table(
        votes,
        kind="pair",
        said="win",
        a=None,
        b=votes.column("reply"),
        words=votes.column("correction"),
        criteria="[]",
        label=None,
        weight=pa.array(np.full(len(votes), _overall(criteria))),
    )


def _comparisons(joined: Joined, criteria: Mapping[str, float]) -> Any:
    pairs = joined.pairs
    events = codes_of(pairs.column("event_id"))
    shared = np.sqrt(np.bincount(events, minlength=1)[events])
    heard, whole = _heard(pairs, criteria)
    weight = pc.divide(whole, pa.array(shared, pa.float64()))
    return _table(
        pairs, kind="pair", said=pairs.column("rating"), words=None, criteria=heard, label=None, weight=weight
    )


def _labels(joined: Joined, criteria: Mapping[str, float]) -> Any:
    """One thumb for each criterion: up above a half."""
    labels, rows, said, names, weights = joined.labels, [], [], [], []
    for row, detail in enumerate(labels.column("detail").to_pylist()):
        for name, value in sorted(orjson.loads(detail).items()):
            rows.append(row)
            said.append("up" if value > 0.5 else "down")
            names.append(name)
            weights.append(abs(2 * value - 1) if criteria.get(name, 0.0) > 0 else 0.0)
    own = labels.take(pa.array(rows, pa.int64()))
    return _table(
        own, kind="thumb", said=pa.array(said, pa.string()), a=own.column("reply"), b=None,
        words=None, criteria=pa.array([orjson.dumps([name]).decode() for name in names], pa.string()),
        label=pa.array(names, pa.string()), weight=pa.array(weights, pa.float64()),
    )  # fmt: skip
