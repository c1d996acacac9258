"""``script``: one subject votes at regular pauses.

Pauses between the votes of people are about log-normal; their logarithms spread by 0.9 and more, and by 0.6 where
somebody works through a queue. Of m pauses in a row with a variance s² of logarithms, (m − 1) s² / σ² is χ² with
m − 1 degrees of freedom when they spread by σ; its lower tail at σ = 0.55, steadier than people, is the chance of
pauses as even as these. Corrected by Bonferroni for all stretches of all subjects.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import stats

from training.bursts.sayings import Burst, Sayings, hours

STEADY = 0.55  # standard deviation of the logarithm of pauses
STRETCHES = (15, 30)  # pauses in a row
LEVEL = 1e-4


def script(sayings: Sayings) -> Iterator[Burst]:
    """One burst a subject."""
    order = np.lexsort((sayings.time, sayings.subject))
    edges = np.flatnonzero(np.r_[True, np.diff(sayings.subject[order]) > 0, True][: len(order) + 1])
    for begin, end in itertools.pairwise(edges):
        rows = order[begin:end]
        pauses = np.log(np.maximum(np.diff(sayings.time[rows]), 0.05))
        caught = np.zeros(len(rows), dtype=bool)
        for length in STRETCHES:
            if len(pauses) < length:
                continue
            spread = sliding_window_view(pauses, length).var(axis=1, ddof=1)
            chance = stats.chi2.cdf((length - 1) * spread / STEADY**2, length - 1)
            for first in np.flatnonzero(chance * len(sayings) * len(STRETCHES) < LEVEL):
                caught[first : first + length + 1] = True
        if caught.any():
            even = float(np.median(np.diff(sayings.time[rows[caught]])))
            why = f"one subject said {int(caught.sum())} things with even pauses of about {hours(even)}"
            yield Burst("script", rows[caught], why)
