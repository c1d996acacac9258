"""The votes as those look at them who search for what should not be trained on, before anything is weighed.

A search is a function of a table of ``VOTES`` alone and answers which events are to stay out, and why. What people
have looked at and released is not held again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from feedback.columns import array_of
from feedback.joined import Joined, reply_codes

_TEXT = pa.dictionary(pa.int32(), pa.string())
VOTES = pa.schema(
    [
        ("event_id", pa.string()),  # of a ranking once for each two replies
        ("kind", pa.string()),  # "vote", "comparison", "label"
        ("subject", pa.string()),
        ("time", pa.float64()),  # Unix seconds; of each kind oldest first
        ("rating", pa.string()),  # "up", "down"; "win" (of reply), "tie", "both_bad"; null: a label
        ("detail", pa.string()),  # JSON: the scores of a label; null: something else
        ("reasons", pa.string()),  # JSON list, as they were said; null: none
        ("correction", pa.string()),  # null: none
        ("reply", pa.int64()),  # the same number for the same text to the same prompt
        ("other", pa.int64()),  # the same of the other reply of a comparison; null: none
        ("adapter", _TEXT),  # that made the reply; "base": none
        ("other_adapter", _TEXT),
        ("messages", _TEXT),  # the prompt as JSON
        ("text", _TEXT),
        ("other_text", _TEXT),
    ]
)
Suspicious: TypeAlias = Callable[[Any], dict[str, str]]
"""A table of VOTES → event id → the reason for which it stays out of training."""


def nobody(_votes: Any) -> dict[str, str]:
    """Suspects nothing."""
    return {}


def votes_of(joined: Joined) -> Any:
    """A table of VOTES: everything that was said and counts."""
    codes = pa.array(reply_codes(joined.replies), pa.int64())
    texts = {name: array_of(joined.replies.column(name)) for name in ("adapter", "messages", "text")}
    parts = []
    for kind, said in (("vote", joined.votes), ("comparison", joined.pairs), ("label", joined.labels)):
        reply, other = ("a", "b") if kind == "comparison" else ("reply", None)
        columns = {name: said.column(name) for name in said.schema.names if name in VOTES.names}
        columns["kind"] = pa.repeat(kind, len(said))
        columns |= _of(said.column(reply), codes, texts, "")
        if other is not None:
            columns |= _of(said.column(other), codes, texts, "other_")
        columns["reply"], columns["other"] = columns.pop("code"), columns.pop("other_code", None)
        parts.append(
            pa.table(
                [
                    columns[field.name]
                    if columns.get(field.name) is not None
                    else pa.nulls(len(said), field.type)
                    for field in VOTES
                ],
                schema=VOTES,
            )
        )
    return pa.concat_tables(parts)


def without(joined: Joined, events: Collection[str]) -> Joined:
    """Without what was said in ``events``."""
    if not events:
        return joined
    out = pa.array(sorted(events), pa.string())
    votes, pairs, labels = (
        said.filter(pc.invert(pc.is_in(said.column("event_id"), out)))
        for said in (joined.votes, joined.pairs, joined.labels)
    )
    return replace(joined, votes=votes, pairs=pairs, labels=labels)


def _of(rows: Any, codes: Any, texts: dict[str, Any], prefix: str) -> dict[str, Any]:
    """What is known of the replies in ``rows``; texts are not copied, rows point to them."""
    row = rows.combine_chunks() if isinstance(rows, pa.ChunkedArray) else rows
    columns = {f"{prefix}code": codes.take(row)}
    for name, values in texts.items():
        columns[f"{prefix}{name}"] = pa.DictionaryArray.from_arrays(row.cast(pa.int32()), values)
    return columns
