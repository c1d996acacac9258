"""``rate``: one or few subjects vote far above their own rate and everyone's.

In every window of length w let k be a subject's votes. They are held against λ, the most votes that the fourth
busiest subject and the subject itself at other times ever had in such a window, with a quarter to spare:
P(X ≥ k), X ~ Poisson(λ), both counted in sittings of three, since votes come together. Where something makes everybody
vote more, as a release that is bad does, λ is raised by as much as the others do: by the votes of each that votes in
the window, without the three that vote most in it, over those of each in all such windows. That is joined with how
one-sided the thumbs in the window are, a binomial tail by the subject's own habit or the adapters' worth. Both are
independent where nobody cheats, so they are joined by Fisher's method: −2 Σ log p is χ² with 4 degrees of freedom
(R. A. Fisher, Statistical Methods for Research Workers, 1925, § 21.1). The number of subjects and windows is
Bonferroni's correction.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from scipy import stats

from training.bursts.sayings import Burst, Floats, Ints, Sayings, ahead, hours

WINDOWS = (600.0, 3600.0, 6 * 3600.0)  # seconds
APART = 12 * 3600.0  # seconds from a burst that count as another time
SPARE = 1.25
SITTING = 3.0  # votes that come together: counts are divided by it, as by a design effect
STEADY = 10.0  # subjects' worth of trust in the usual number of votes
LEAST = 20  # votes in a window that are looked at
FEW = 3  # subjects that may be in it together
CLEAR = 1e-2  # chance of so many votes, above which no thumb makes up for it
LEVEL = 1e-5


def rate(sayings: Sayings) -> Iterator[Burst]:
    """One burst a subject and window."""
    order = np.lexsort((sayings.time, sayings.subject))
    edges = np.flatnonzero(np.r_[True, np.diff(sayings.subject[order]) > 0, True][: len(order) + 1])
    people = [order[begin:end] for begin, end in itertools.pairwise(edges)]
    for window in WINDOWS:
        counts = [ahead(sayings.time[rows], window) - np.arange(len(rows)) for rows in people]
        most = np.array([int(count.max()) for count in counts])
        fourth = int(np.sort(most)[::-1][FEW]) if len(most) > FEW else 0
        for place in np.flatnonzero(most >= max(LEAST, fourth + 1)):
            rows = people[place]
            told = _told(sayings, rows, counts[place], fourth, window)
            if told is not None and told[0] * len(people) * len(WINDOWS) < LEVEL:
                yield Burst("rate", told[1], told[2])


def _told(
    sayings: Sayings, rows: Ints, counts: Ints, fourth: int, window: float
) -> tuple[float, Ints, str] | None:
    time, first = sayings.time[rows], int(counts.argmax())
    most, begin = int(counts[first]), float(time[first])
    apart = np.abs(time - begin) > APART
    usual = max(fourth, int(counts[apart].max()) if apart.any() else 0, 5) * SPARE
    usual *= eagerness(sayings, begin, window, FEW)
    busy = float(stats.poisson.sf(int(most / SITTING) - 1, usual / SITTING))
    inside = rows[(time >= begin) & (time <= begin + window)]
    alike = one_sided(sayings, inside, rows[apart])
    if busy > CLEAR:
        return None
    joined = float(stats.chi2.sf(-2 * (np.log(max(busy, 1e-300)) + np.log(max(alike, 1e-300))), 4))
    caught = stretch(time, counts, usual)
    why = f"one subject said {most} things within {hours(window)}; {usual:.0f} would be many"
    return joined, rows[caught], why


def eagerness(sayings: Sayings, begin: float, window: float, few: int) -> float:
    """How many times more than at other times those say in the window who say anything, without the ``few`` that say
    most; not less than 1.
    """
    inside = (sayings.time >= begin) & (sayings.time <= begin + window)
    here = np.unique(sayings.subject[inside], return_counts=True)[1]
    here = np.sort(here)[: max(0, len(here) - few)]
    part = ((sayings.time - sayings.time[0]) // window).astype(np.int64)
    at_all = np.unique(np.stack([sayings.subject, part]), axis=1).shape[1]
    mean = len(sayings) / at_all
    return max(1.0, float((here.sum() + STEADY * mean) / (len(here) + STEADY) / mean))


def one_sided(sayings: Sayings, inside: Ints, elsewhere: Ints) -> float:
    """Tail of the commoner thumb in the window, by the subject's own habit with everyone's as prior, or by what others
    say of the same adapters, whichever makes it less of a wonder.
    """
    ups, downs = int((sayings.sign[inside] > 0).sum()), int((sayings.sign[inside] < 0).sum())
    if not ups + downs:
        return 1.0
    own = sayings.sign[elsewhere]
    habit = ((own > 0).sum() + 10 * sayings.up_rate) / ((own != 0).sum() + 10)
    others = sayings.up_odds(sayings.subject != sayings.subject[inside[0]])[inside].mean()
    more, likely = (ups, max(habit, others)) if ups >= downs else (downs, 1 - min(habit, others))
    return min(1.0, 2 * float(stats.binom.sf(more - 1, ups + downs, likely)))


def stretch(time: Floats, counts: Ints, usual: float) -> Ints:
    """Places of the subject's votes that lie in a window fuller than usual."""
    full = np.flatnonzero(counts > usual)
    caught = np.zeros(len(time), dtype=bool)
    for first in full:
        caught[first : first + counts[first]] = True
    return np.flatnonzero(caught)
