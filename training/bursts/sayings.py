"""Standing votes as arrays, and what every statistic needs of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]

COLUMNS = (
    "event_id", "kind", "subject", "time", "rating", "reply", "other", "adapter", "messages", "text", "other_text",
)  # fmt: skip
"""Of ``training.suspects.VOTES``: what the search reads."""

PRIOR = 10.0  # votes' worth of trust in the rate of all adapters together


class Burst(NamedTuple):
    """Votes that belong together, and why they are suspicious."""

    kind: str
    rows: Ints  # places in Sayings
    why: str


@dataclass(frozen=True)
class Sayings:
    """Rows by time, then event id. Codes are places in a sorted list of names, so equal names have equal ones."""

    ids: list[str]
    time: Floats
    subject: Ints
    prompt: Ints
    item: Ints  # prompt and replies: what two subjects have in common when they judge the same
    adapter: Ints
    sign: Ints  # 1 up, -1 down, 0 no thumb
    side: Ints  # agreement on an item: the thumb's sign, or which of two replies won; 0: neither
    age: Floats  # seconds since the first thing the subject said
    text: Ints
    other: Ints
    texts: list[str]  # by the codes of ``text`` and ``other``

    @classmethod
    def of(cls, votes: pa.Table) -> Sayings:
        """Read a table of ``training.suspects.VOTES``, in any order. Labels only tell how long a subject is known."""
        votes = votes.select(COLUMNS).sort_by([("time", "ascending"), ("event_id", "ascending")])
        time, subject = votes["time"].to_numpy(), _codes(votes["subject"])
        first = np.full(int(subject.max(initial=-1)) + 1, np.inf)
        np.minimum.at(first, subject, time)
        rating, compared = votes["rating"], pc.equal(votes["kind"], "comparison").to_numpy()
        sign = _is(rating, "up").astype(np.int64) - _is(rating, "down").astype(np.int64)
        reply, other = votes["reply"].to_numpy(), pc.fill_null(votes["other"], -1).to_numpy()
        won = np.where(_is(rating, "win"), np.where(reply < other, 1, -1), 0)
        low, high = np.where(compared, np.minimum(reply, other), reply), np.maximum(reply, other)
        pair = (low + 1) * (int(reply.max(initial=0)) + int(other.max(initial=0)) + 2)
        pair += np.where(compared, high + 1, 0)
        texts = pa.chunked_array([*_plain(votes["text"]), *_plain(votes["other_text"])], pa.string())
        coded = pc.dictionary_encode(pc.fill_null(texts, "")).combine_chunks()
        text, lost = np.split(coded.indices.to_numpy().astype(np.int64), 2)
        return cls(
            votes["event_id"].to_pylist(), time, subject, _codes(votes["messages"]),
            np.unique(pair, return_inverse=True)[1].reshape(-1), _codes(votes["adapter"]),
            sign, np.where(compared, won, sign), time - first[subject], text, lost, coded.dictionary.to_pylist(),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def up_rate(self) -> float:
        """Share of thumbs up, off the edges."""
        ups, thumbs = int((self.sign > 0).sum()), int((self.sign != 0).sum())
        return (ups + 1) / (thumbs + 2)

    def up_odds(self, among: Flags) -> Floats:
        """Of each row the probability of a thumb up on its adapter, by the thumbs ``among`` these rows."""
        width = int(self.adapter.max()) + 1 if len(self) else 0
        thumbs = np.bincount(self.adapter[among & (self.sign != 0)], minlength=width)
        ups = np.bincount(self.adapter[among & (self.sign > 0)], minlength=width)
        every = (ups.sum() + 1) / (thumbs.sum() + 2)
        rates: Floats = (ups + PRIOR * every) / (thumbs + PRIOR)
        return rates[self.adapter]


def _plain(values: pa.ChunkedArray) -> list[pa.Array]:
    return [one.dictionary_decode() if pa.types.is_dictionary(one.type) else one for one in values.chunks]


def _codes(values: pa.ChunkedArray) -> Ints:
    """Equal numbers for equal names."""
    plain = pc.fill_null(pa.chunked_array(_plain(values), pa.string()), "")
    codes: Ints = pc.dictionary_encode(plain).combine_chunks().indices.to_numpy().astype(np.int64)
    return codes


def _is(values: pa.ChunkedArray, word: str) -> Flags:
    told: Flags = pc.fill_null(pc.equal(values, word), False).to_numpy()
    return told


def capped(keys: Ints, most: int) -> Flags:
    """Of rows in order: the first ``most`` of each key."""
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    begins = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(keys) else np.zeros(0, np.int64)
    place = np.arange(len(keys)) - np.repeat(begins, np.diff(np.r_[begins, len(keys)]))
    kept = np.zeros(len(keys), dtype=bool)
    kept[order] = place < most
    return kept


def ahead(time: Floats, window: float) -> Ints:
    """Of rows by time: for each the first place that is later than ``window`` seconds after it."""
    return np.searchsorted(time, time + window, side="right").astype(np.int64)


def hours(seconds: float) -> str:
    """A length of time for people."""
    return (
        f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
        if seconds < 172800
        else (f"{seconds / 86400:.1f} days")
    )
