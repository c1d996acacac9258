"""``newcomers``: many fresh accounts vote alike within hours.

That many come at once is no fault: a day in the press does that. In each window in which fresh accounts have a
larger share of the thumbs than elsewhere (binomial tail), their thumbs are held against what accounts that are not
fresh say of the same adapters: P(X ≥ k), X ~ Binomial(n, p̄), which bounds the tail of unequal p from above their
mean (W. Hoeffding, Ann. Math. Statist. 27, 1956). Of one prompt three thumbs count and of one subject, too,, since
such thumbs go together; n is divided by a design effect for what still does. Corrected for the windows that have
no thumb in common.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from training.bursts.sayings import Burst, Floats, Ints, Sayings, ahead, capped, hours

FRESH = 86400.0  # seconds since an account said its first thing
WINDOWS = (3600.0, 3 * 3600.0, 6 * 3600.0, 12 * 3600.0)  # seconds
CROWDED = 1e-3  # chance of as large a share of fresh accounts as in a window
EFFECT = 1.2  # design effect of subjects and prompts
LEAST = 12  # thumbs
LEVEL = 1e-3


def newcomers(sayings: Sayings) -> Iterator[Burst]:
    """At most the most telling window."""
    thumbs = sayings.sign != 0
    fresh = np.flatnonzero(thumbs & (sayings.age < FRESH))
    settled = thumbs & (sayings.age >= FRESH)
    if len(fresh) < LEAST or settled.sum() < LEAST:
        return
    odds = sayings.up_odds(settled)
    best: tuple[float, Ints, str] = (1.0, fresh[:0], "")
    tests = 0.0
    for window in WINDOWS:
        last = ahead(sayings.time[fresh], window)
        for first in range(0, len(fresh), 2):
            rows = fresh[first : last[first]]
            if len(rows) >= LEAST and _usual_share(sayings, rows, window) < CROWDED:
                tests += 4 / len(rows)  # as many windows without a thumb in common, twice for both thumbs
                best = min(best, _alike(sayings, rows, odds, window), key=lambda one: one[0])
    if best[0] * max(2.0, tests) < LEVEL:
        yield Burst("newcomers", best[1], best[2])


def _alike(sayings: Sayings, rows: Ints, odds: Floats, window: float) -> tuple[float, Ints, str]:
    kept = rows[capped(sayings.prompt[rows], 3) & capped(sayings.subject[rows], 3)]
    if len(kept) < LEAST:
        return 1.0, rows[:0], ""
    ups = int((sayings.sign[kept] > 0).sum())
    up = 2 * ups >= len(kept)
    more, odd = (ups, odds[kept]) if up else (len(kept) - ups, 1 - odds[kept])
    chance = float(stats.binom.sf(int(more / EFFECT) - 1, round(len(kept) / EFFECT), odd.mean()))
    caught = rows[(sayings.sign[rows] > 0) == up]
    people = len(np.unique(sayings.subject[caught]))
    why = (
        f"{people} fresh accounts said {'up' if up else 'down'} {len(caught)} times in {len(rows)} within "
        f"{hours(window)}; others do so in {odd.mean():.0%}"
    )
    return chance, caught, why


def _usual_share(sayings: Sayings, rows: Ints, window: float) -> float:
    """Tail of the fresh accounts' share of thumbs in the window, by their share outside it."""
    begin, thumbs = sayings.time[rows[0]], sayings.sign != 0
    inside = thumbs & (sayings.time >= begin) & (sayings.time <= begin + window)
    fresh = sayings.age < FRESH
    outside = (thumbs & ~inside & fresh).sum() / max(1, (thumbs & ~inside).sum())
    return float(stats.binom.sf(len(rows) - 1, int(inside.sum()), min(0.99, outside + 0.01)))
