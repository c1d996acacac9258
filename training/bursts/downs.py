"""``downs``: accounts of any age vote one adapter down within hours.

A release that is bad makes people vote down as well, but an adapter's bytes never change: what is bad in one hour
is bad in its others. So each window's downs on an adapter are held against the same adapter's share outside of the
window, P(X ≥ d), X ~ Binomial(n, p); of one subject two thumbs count and of one reply two, n and d are divided by a
design effect, and p is taken off the edge by the thumbs of all adapters as prior. An adapter without enough thumbs
outside the window is left alone. Corrected for the windows that have no thumb in common, and the adapters.

A scan statistic in the sense of M. Kulldorff (Commun. Statist. 26, 1997), with the tail bounded instead of simulated.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from training.bursts.sayings import Burst, Flags, Ints, Sayings, ahead, capped, hours

WINDOWS = (3600.0, 3 * 3600.0, 6 * 3600.0)  # seconds
OUTSIDE = 20  # thumbs on the adapter outside of the window, at least
LEAST = 12  # thumbs in it
EFFECT = 1.3
LEVEL = 1e-4


def downs(sayings: Sayings) -> Iterator[Burst]:
    """The most telling window of each adapter."""
    thumbs = np.flatnonzero(sayings.sign != 0)
    adapters = np.unique(sayings.adapter[thumbs])
    for adapter in adapters:
        rows = thumbs[sayings.adapter[thumbs] == adapter]
        best: tuple[float, Ints, str] = (1.0, rows[:0], "")
        span = float(np.ptp(sayings.time[rows]))
        for window in WINDOWS:
            tests = 2 * max(1.0, span / window) * len(WINDOWS) * len(adapters)
            last = ahead(sayings.time[rows], window)
            for first in _worth(sayings.sign[rows] < 0, last):
                told = _window(sayings, rows, first, int(last[first]), window)
                best = min(best, (told[0] * tests, *told[1:]), key=lambda one: one[0])
        if best[0] < LEVEL:
            yield Burst("downs", best[1], best[2])


def _worth(down: Flags, last: Ints) -> Ints:
    """First places of the windows that begin with a down, have enough thumbs, and stand out of the whole."""
    counted = np.r_[0, np.cumsum(down)]
    n = last - np.arange(len(down))
    d = counted[last] - counted[:-1]
    rate = counted[-1] / len(down)
    clear = d - n * rate > 2 * np.sqrt(n * rate * (1 - rate))
    return np.flatnonzero(down & (n >= LEAST) & (2 * d >= n) & clear)


def _window(sayings: Sayings, rows: Ints, first: int, last: int, window: float) -> tuple[float, Ints, str]:
    inside, outside = rows[first:last], np.r_[rows[:first], rows[last:]]
    down = sayings.sign[inside] < 0
    if len(outside) < OUTSIDE:
        return 1.0, rows[:0], ""
    outside = outside[capped(sayings.subject[outside], 20)]
    usual = ((sayings.sign[outside] < 0).sum() + 10 * (1 - sayings.up_rate)) / (len(outside) + 10)
    kept = inside[capped(sayings.subject[inside], 2) & capped(sayings.item[inside], 2)]
    d, n = int((sayings.sign[kept] < 0).sum() / EFFECT), round(len(kept) / EFFECT)
    chance = float(stats.binom.sf(d - 1, n, usual))
    content = np.unique(sayings.subject[inside[~down]])
    caught = inside[down & ~np.isin(sayings.subject[inside], content)]
    people = len(np.unique(sayings.subject[caught]))
    why = (
        f"{people} subjects said down {len(caught)} times in {len(inside)} within {hours(window)} of one adapter "
        f"that gets {usual:.0%} at other times"
    )
    return chance, caught, why
