"""``newcomers``: many fresh accounts vote alike within hours.

That many come at once is no fault: a day in the press does that. In each window in which more fresh accounts begin to
vote than elsewhere (Poisson tail), and are a larger share of all who do (binomial tail), their thumbs are held against
what accounts that are not fresh say of the same adapters: P(X ≥ k), X ~ Binomial(n, p̄), which bounds the tail of
unequal p from above their mean (W. Hoeffding, Ann. Math. Statist. 27, 1956). Of one prompt three thumbs count and of
one subject, too, since such thumbs go together; n is divided by a design effect for what still does. Corrected for the
windows that have no thumb in common.

A crowd that comes by one way may have a taste of its own, and where many come any taste is beyond chance. So k must
also be likelier where they follow one line, with any rate from 0.8 to 1, than where their common rate is drawn around
p̄ from a beta law with the correlation ρ: by three times as many as there are windows, so that it is clearly the
likelier of the two though one window at most is arranged. The ratio of the two mixtures is a Bayes factor (R. E. Kass,
A. E. Raftery, J. Am. Statist. Assoc. 90, 1995).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from training.bursts.sayings import Burst, Flags, Floats, Ints, Sayings, ahead, capped, hours

FRESH = 86400.0  # seconds since an account said its first thing
WINDOWS = (3600.0, 3 * 3600.0, 6 * 3600.0, 12 * 3600.0)  # seconds
CROWDED = 1e-3  # chance of as many fresh accounts as begin in a window, and of as large a share
EFFECT = 1.2  # design effect of subjects and prompts
LEAST = 12  # thumbs
TASTE = 0.02  # correlation of the thumbs of one crowd: of 3 in 4, a standard deviation of a third in log-odds
LINE = 0.8  # share of one thumb, from which a crowd may follow one line
ODDS = 3.0  # that a window follows one line, where one of all that are looked at may
MOSTLY = 0.7  # share of one thumb among all of a window, below which nobody needs to look closer
LEVEL = 3e-3


def newcomers(sayings: Sayings) -> Iterator[Burst]:
    """At most the most telling window."""
    thumbs = sayings.sign != 0
    fresh = np.flatnonzero(thumbs & (sayings.age < FRESH))
    settled = thumbs & (sayings.age >= FRESH)
    if len(fresh) < LEAST or settled.sum() < LEAST:
        return
    odds = sayings.up_odds(settled)
    told = np.r_[0, np.cumsum(sayings.sign[fresh])]
    tests, looked_at = 0.0, list[tuple[float, Ints]]()
    for window in WINDOWS:
        last = ahead(sayings.time[fresh], window)
        firsts = np.arange(0, len(fresh), 2)
        firsts = firsts[last[firsts] - firsts >= LEAST]
        firsts = firsts[_usual_share(sayings, fresh, firsts, window) < CROWDED]
        count = last[firsts] - firsts
        tests += float((4 / count).sum())  # as many windows without a thumb in common, twice for both thumbs
        clear = np.abs(told[last[firsts]] - told[firsts]) >= (2 * MOSTLY - 1) * count
        looked_at += [(window, fresh[first : last[first]]) for first in firsts[clear]]
    best: tuple[float, Ints, str] = (1.0, fresh[:0], "")
    for window, rows in looked_at:
        best = min(best, _alike(sayings, rows, odds, window, tests), key=lambda one: one[0])
    if best[0] * max(2.0, tests) < LEVEL:
        yield Burst("newcomers", best[1], best[2])


def _alike(
    sayings: Sayings, rows: Ints, odds: Floats, window: float, tests: float
) -> tuple[float, Ints, str]:
    kept = rows[capped(sayings.prompt[rows], 3) & capped(sayings.subject[rows], 3)]
    if len(kept) < LEAST:
        return 1.0, rows[:0], ""
    ups = int((sayings.sign[kept] > 0).sum())
    up = 2 * ups >= len(kept)
    more, odd = (ups, odds[kept]) if up else (len(kept) - ups, 1 - odds[kept])
    k, n, usual = int(more / EFFECT), round(len(kept) / EFFECT), float(odd.mean())
    if _likelier(k, n, usual) < ODDS * tests:
        return 1.0, rows[:0], ""
    chance = float(stats.binom.sf(k - 1, n, usual))
    caught = rows[(sayings.sign[rows] > 0) == up]
    people = len(np.unique(sayings.subject[caught]))
    why = (
        f"{people} fresh accounts said {'up' if up else 'down'} {len(caught)} times in {len(rows)} within "
        f"{hours(window)}; others do so in {usual:.0%}"
    )
    return chance, caught, why


def _likelier(k: int, n: int, usual: float) -> float:
    """How many times likelier k of n is of a crowd that follows one line than of one that has a taste."""
    line = stats.beta.sf(LINE, k + 1, n - k + 1) / ((1 - LINE) * (n + 1))  # the rate integrated out
    scale = (1 - TASTE) / TASTE
    return float(line / stats.betabinom.pmf(k, n, usual * scale, (1 - usual) * scale))


def _usual_share(sayings: Sayings, fresh: Ints, firsts: Ints, window: float) -> Floats:
    """Of each window the tail of the fresh accounts that begin to vote in it, as a share and as a number, by what is
    outside it: at night a few are a large share, by day many are a usual one.
    """
    come = _begun(sayings, window)
    every, theirs = np.r_[0, np.cumsum(come)], np.r_[0, np.cumsum(come & (sayings.age < FRESH))]
    begin = sayings.time[fresh[firsts]]
    left = np.searchsorted(sayings.time, begin, side="left")
    right = np.searchsorted(sayings.time, begin + window, side="right")
    inside, mine = every[right] - every[left], theirs[right] - theirs[left]
    outside = (theirs[-1] - mine) / np.maximum(1, every[-1] - inside)
    share = stats.binom.sf(mine - 1, inside, np.minimum(0.99, outside + 0.01))
    elsewhere = (theirs[-1] - mine) / max(1.0, float(np.ptp(sayings.time)) / window - 1)
    tail: Floats = np.maximum(share, stats.poisson.sf(mine - 1, elsewhere + 0.5))
    return tail


def _begun(sayings: Sayings, pause: float) -> Flags:
    """Thumbs before which the subject gave none for so long: people count, and not how much each has to say."""
    thumbs = np.flatnonzero(sayings.sign != 0)
    order = thumbs[np.argsort(sayings.subject[thumbs], kind="stable")]
    again = (np.diff(sayings.subject[order]) == 0) & (np.diff(sayings.time[order]) <= pause)
    begun = np.zeros(len(sayings), dtype=bool)
    begun[order[np.r_[True, ~again]]] = True
    return begun
