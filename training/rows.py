"""What was said, as rows that can be learnt from: which criteria are heard, and what each saying counts.

A vote whose reasons name criteria of the alias counts by the mean of their weights, any other counts 1; reasons that
are no criterion are not heard. A label is a thumb for each criterion, the surer the heavier. A correction beats what
it corrects. A ranking is one saying: the root of the number of its pairs parts the weight among them.
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

SAYINGS = pa.schema(
    [
        ("kind", pa.string()),  # "pair", "thumb"
        ("event_id", pa.string()),
        ("subject", pa.string()),
        ("time", pa.float64()),
        ("said", pa.string()),  # "win" (of a), "tie", "both_bad", "up", "down"
        ("a", pa.int32()),  # row of replies; null: a correction, which stands in words
        ("b", pa.int32()),  # row of replies; null: a thumb
        ("words", pa.string()),  # a correction, or of a thumb the criteria heard as a JSON list
        ("weight", pa.float64()),  # > 0
    ]
)


def sayings(joined: Joined, criteria: Mapping[str, float]) -> Any:
    """A table of SAYINGS: pairs, then thumbs, each oldest first."""
    parts = [_comparisons(joined, criteria), _corrections(joined)]
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
    """Per row the criteria heard (JSON) and their mean weight."""
    coded = said.column("reasons").combine_chunks().dictionary_encode(null_encoding="encode")
    heard, weights = [], []
    for reasons in coded.dictionary.to_pylist():
        own = [reason for reason in (orjson.loads(reasons) if reasons else ()) if reason in criteria]
        heard.append(orjson.dumps(own).decode())
        weights.append(sum(criteria[reason] for reason in own) / len(own) if own else 1.0)
    row = coded.indices
    return pa.array(heard, pa.string()).take(row), pa.array(weights, pa.float64()).take(row)


def _thumbs(joined: Joined, criteria: Mapping[str, float]) -> Any:
    votes = joined.votes
    heard, weight = _heard(votes, criteria)
    return _table(
        votes,
        kind="thumb",
        said=votes.column("rating"),
        a=votes.column("reply"),
        b=None,
        words=heard,
        weight=weight,
    )


def _corrections(joined: Joined) -> Any:
    votes = joined.votes.filter(pc.is_valid(joined.votes.column("correction")))
    ones = pa.array(np.ones(len(votes)))
    return _table(
        votes,
        kind="pair",
        said="win",
        a=None,
        b=votes.column("reply"),
        words=votes.column("correction"),
        weight=ones,
    )


def _comparisons(joined: Joined, criteria: Mapping[str, float]) -> Any:
    pairs = joined.pairs
    events = codes_of(pairs.column("event_id"))
    shared = np.sqrt(np.bincount(events, minlength=1)[events])
    weight = pc.divide(_heard(pairs, criteria)[1], pa.array(shared, pa.float64()))
    return _table(pairs, kind="pair", said=pairs.column("rating"), words=None, weight=weight)


def _labels(joined: Joined, criteria: Mapping[str, float]) -> Any:
    """One thumb for each criterion: up above a half."""
    labels, rows, said, words, weights = joined.labels, [], [], [], []
    for row, detail in enumerate(labels.column("detail").to_pylist()):
        for name, value in sorted(orjson.loads(detail).items()):
            rows.append(row)
            said.append("up" if value > 0.5 else "down")
            words.append(orjson.dumps([name]).decode())
            weights.append(criteria.get(name, 0.0) * abs(2 * value - 1))
    own = labels.take(pa.array(rows, pa.int64()))
    return _table(
        own, kind="thumb", said=pa.array(said, pa.string()), a=own.column("reply"), b=None,
        words=pa.array(words, pa.string()), weight=pa.array(weights, pa.float64()),
    )  # fmt: skip
