"""What stands of all that was said: the newest of each voice, one voice for every two replies, nothing taken back.

Training and exports read feedback through here and nowhere else. Work is done on columns: bodies are not parsed.

- Of one voice (``feedback_id``) the newest by time stands; of the same time the later in the log. A vote whose newest
  says that it was taken back does not stand at all.
- A comparison and a ranking that name the same two replies are one voice about these two: the newest counts. What else
  the older ranking says of other replies still stands.
- A reply is left out while one report on it is open or upheld. Of the verdicts on a report the newest by time counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from feedback.columns import moments

SAID = ("vote", "comparison", "label", "report")
COLUMNS = (
    "event_id", "kind", "alias", "subject", "time", "position", "voice", "response_id", "rating", "detail", "reasons",
    "correction",
)  # fmt: skip
VOTES = ("event_id", "alias", "subject", "time", "response_id", "rating", "reasons", "correction")
LABELS = ("event_id", "alias", "subject", "time", "response_id", "detail")
PAIRS = pa.schema(
    [
        ("event_id", pa.string()),
        ("alias", pa.string()),
        ("subject", pa.string()),
        ("time", pa.float64()),
        ("a", pa.string()),  # response ids; a win is a's
        ("b", pa.string()),
        ("rating", pa.string()),  # "win", "tie", "both_bad"
        ("reasons", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Standing:
    """All that stands, each table oldest first."""

    votes: Any  # a table of VOTES; rating is "up" or "down"
    pairs: Any  # a table of PAIRS: every two replies of a comparison or ranking, once a subject
    labels: Any  # a table of LABELS
    left_out: Any  # array of response ids: reported, and not cleared

    @property
    def said(self) -> int:
        """How many sayings stand; of a ranking each two replies are one."""
        return len(self.votes) + len(self.pairs) + len(self.labels)


def standing(tables: Iterable[Any]) -> Standing:
    """``tables`` hold ``COLUMNS`` of events of the kinds ``SAID``, any of them twice and in any order."""
    table = pa.concat_tables([_empty(), *tables]).combine_chunks()
    reported = pc.equal(table.column("kind"), "report")
    reports, said = table.filter(reported), table.filter(pc.invert(reported))
    said = said.take(newest(said))
    kind = said.column("kind")
    votes = said.filter(pc.and_(pc.equal(kind, "vote"), pc.is_valid(said.column("rating"))))
    return Standing(
        votes=votes.select(VOTES),
        pairs=_pairs(said.filter(pc.equal(kind, "comparison"))),
        labels=said.filter(pc.equal(kind, "label")).select(LABELS),
        left_out=_left_out(reports),
    )


def newest(said: Any, decided: Any = None) -> Any:
    """Of each voice the row of its newest; the rows oldest first. ``decided``: (n,) truths that come before time."""
    place = moments(said.column("position"))
    keys = [place[:, 1], place[:, 0], said.column("time").to_numpy()]
    by_time = np.lexsort(keys)
    order = by_time if decided is None else np.lexsort([*keys, decided])
    codes = codes_of(said.column("voice"))
    last = np.full(codes.max(initial=-1) + 1, -1)
    last[codes[order]] = order  # of several the last is kept: the newest
    chosen = np.zeros(len(codes), dtype=bool)
    chosen[last] = True
    return by_time[chosen[by_time]]


def codes_of(values: Any) -> Any:
    """(n,) numbers, the same for the same value."""
    coded = values.dictionary_encode(null_encoding="encode")  # of chunks, too, by one dictionary
    chunks = coded.chunks if isinstance(coded, pa.ChunkedArray) else [coded]
    return np.concatenate([np.zeros(0, np.int32), *(chunk.indices.to_numpy() for chunk in chunks)])


def _empty() -> Any:
    kinds = {"time": pa.float64()}
    return pa.table({name: pa.array([], kinds.get(name, pa.string())) for name in COLUMNS})


def _pairs(said: Any) -> Any:
    """Each two replies of every comparison; of those the same subject said of the same two, the newest."""
    rows = said.select(["subject", "rating", "detail"]).to_pydict()
    held: dict[tuple[str, str, str], tuple[int, int, str, str, str]] = {}
    said_of = zip(rows["subject"], rows["rating"], rows["detail"], strict=True)
    for row, (subject, rating, detail) in enumerate(said_of):
        placed = [(name, place) for place, group in enumerate(orjson.loads(detail)) for name in group]
        for number, ((a, place), (b, other)) in enumerate(itertools.combinations(placed, 2)):
            outcome = "win" if place != other else rating or "tie"
            held[subject, *((a, b) if a < b else (b, a))] = (row, number, a, b, outcome)
    kept = sorted(held.values())
    chosen = said.take(pa.array([pair[0] for pair in kept], pa.int64()))
    told = {
        "a": pa.array([pair[2] for pair in kept], pa.string()),
        "b": pa.array([pair[3] for pair in kept], pa.string()),
        "rating": pa.array([pair[4] for pair in kept], pa.string()),
    }
    return pa.table(
        [told[name] if name in told else chosen.column(name) for name in PAIRS.names], schema=PAIRS
    )


def _left_out(reports: Any) -> Any:
    """A verdict counts before a report without one, whenever either came."""
    verdict = reports.column("rating")
    decided = pc.is_valid(verdict).to_numpy(zero_copy_only=False)
    kept = reports.take(newest(reports, decided))
    cleared = pc.fill_null(pc.equal(kept.column("rating"), "dismissed"), False)
    return pc.unique(kept.filter(pc.invert(cleared)).column("response_id"))
