"""``rate``: few subjects vote far above everyone's rate in the same hours.

One subject may vote more than all others and be nobody's tool; that the two or three busiest of two weeks are so in
one hour is another matter. So of each window the votes of the second, the third and the fifth busiest in it count, and
the fullest window is held against all that are apart from it: P(X ≥ k), X ~ Poisson(λ), λ the most that the one of the
same rank had in any of them, with a quarter to spare, and more where everybody votes more (``training.bursts.rate``).
One honest subject that works through a queue moves none of these. That is joined by Fisher's method with how one-sided
each of them is: the chance that all of m are as one-sided as the least of them is the m-th power of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from training.bursts.rate import (
    APART,
    CLEAR,
    FEW,
    LEAST,
    SITTING,
    SPARE,
    WINDOWS,
    eagerness,
    one_sided,
    stretch,
)
from training.bursts.sayings import Burst, Floats, Ints, Sayings, ahead, hours

RANKS = (2, 3, 5)
LITTLE = 5  # votes that anybody may give in a window
ONE_SIDED = 0.05  # chance of thumbs as one-sided, above which a subject is not one of them
LEVEL = 1e-5


def together(sayings: Sayings) -> Iterator[Burst]:
    """One burst a window and rank."""
    if not len(sayings):
        return
    tests = len(np.unique(sayings.subject)) * len(WINDOWS) * len(RANKS)
    for window in WINDOWS:
        for rank in RANKS:
            begins, counts = _ranked(sayings, window, rank)
            if not len(counts) or counts.max() < LEAST:
                continue
            begin = float(begins[counts.argmax()])
            apart = counts[np.abs(begins - begin) > APART + window]
            usual = SPARE * max(LITTLE, int(apart.max(initial=0)))
            usual *= eagerness(sayings, begin, window, max(FEW, rank))
            chance, members = _chance(sayings, begin, window, rank, usual)
            rows = [_fuller(sayings, member, begin, window, usual) for member in members]
            if chance * tests < LEVEL and rows:
                caught = np.concatenate(rows)
                why = (
                    f"{len(members)} subjects said {len(caught)} things within the same {hours(window)}; "
                    f"{usual:.0f} of each would be many"
                )
                yield Burst("rate", caught, why)


def _ranked(sayings: Sayings, window: float, rank: int) -> tuple[Floats, Ints]:
    """Of windows half a window apart: when each begins, and the votes of the so-many-busiest subject in it."""
    begins, counts = list[Floats](), list[Ints]()
    for shift in (0.0, window / 2):
        origin = float(sayings.time[0]) - shift
        part = ((sayings.time - origin) // window).astype(np.int64)
        (parts, _), said = np.unique(np.stack([part, sayings.subject]), axis=1, return_counts=True)
        order = np.lexsort((-said, parts))
        first = np.flatnonzero(np.r_[True, np.diff(parts) > 0])
        people = np.diff(np.r_[first, len(parts)])
        enough = people >= rank
        counts.append(said[order][first[enough] + rank - 1])
        begins.append(origin + window * parts[first[enough]])
    return np.concatenate(begins), np.concatenate(counts)


def _chance(
    sayings: Sayings, begin: float, window: float, rank: int, usual: float
) -> tuple[float, list[int]]:
    """Of so many subjects as busy and as one-sided, and who in the window is both."""
    inside = np.flatnonzero((sayings.time >= begin) & (sayings.time < begin + window))
    who, said = np.unique(sayings.subject[inside], return_counts=True)
    order = np.argsort(-said, kind="stable")
    busy = float(stats.poisson.sf(int(said[order[rank - 1]] / SITTING) - 1, usual / SITTING))
    if busy > CLEAR:
        return 1.0, []
    alike = np.array([_one_sided(sayings, inside, int(who[place]), begin) for place in order])
    joined = -2 * (np.log(max(busy, 1e-300)) + rank * np.log(max(float(alike[:rank].max()), 1e-300)))
    found = (said[order] > usual) & (alike < ONE_SIDED)
    return float(stats.chi2.sf(joined, 4)), [int(one) for one in who[order[found]]]


def _one_sided(sayings: Sayings, inside: Ints, member: int, begin: float) -> float:
    theirs = inside[sayings.subject[inside] == member]
    elsewhere = np.flatnonzero((sayings.subject == member) & (np.abs(sayings.time - begin) > APART))
    return one_sided(sayings, theirs, elsewhere)


def _fuller(sayings: Sayings, member: int, begin: float, window: float, usual: float) -> Ints:
    """A subject's votes in windows fuller than usual, not apart from that one."""
    rows = np.flatnonzero((sayings.subject == member) & (np.abs(sayings.time - begin) <= APART))
    time = sayings.time[rows]
    return rows[stretch(time, ahead(time, window) - np.arange(len(rows)), usual)]
