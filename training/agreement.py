"""How far a rater is to be trusted, by whether others say the same of the same replies.

The model is Dawid and Skene's with one coin a subject (Applied Statistics 28, 1979; on pairs it is Crowd-BT without
strengths, Chen et al. 2013): about each thing that several subjects judged there is one truth, and subject s says it
with probability r_s. Both are found by expectation maximisation. A prior of a few votes at the crowd's own mean
keeps those who have said little near it, and the weight goes by r_s plus a standard deviation: only who has been seen
to disagree, often, counts less. Who was alone with what he judged counts whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np

ROUNDS = 25
"""Of expectation maximisation; the mean moves by less than 1e-3 after about ten."""
CROWD = (0.6, 0.95)
"""Bounds of the crowd's mean reliability: at one half nothing could be told, at 1 a slip would be proof."""


def trust(subjects: Any, things: Any, said: Any, prior: float, floor: float) -> Any:
    """(subjects,) weights in [floor, 1] by code of subject.

    Per row: ``subjects`` (n,) codes; ``things`` (n,) codes of what was judged, -1 where nothing can be told; ``said``
    (n,) which of two things was said of it. ``prior``: votes that the crowd's mean counts for.
    """
    count = int(subjects.max(initial=-1)) + 1
    subjects, things, said = _shared(subjects, things, said)
    reliability, crowd, seen = _reliability(subjects, things, said, count, prior)
    doubt = np.sqrt(reliability * (1 - reliability) / (seen + prior + 1))
    return np.clip((2 * (reliability + doubt) - 1) / (2 * crowd - 1), floor, 1.0)


def _shared(subjects: Any, things: Any, said: Any) -> tuple[Any, Any, Any]:
    """Only the last word of each subject on each thing that several judged; things are counted anew."""
    known = things >= 0
    subjects, things, said = subjects[known][::-1], things[known][::-1], said[known][::-1]
    width = int(subjects.max(initial=0)) + 1
    once = np.unique(things.astype(np.int64) * width + subjects, return_index=True)[1]
    subjects, things, said = subjects[once], things[once], said[once]
    several = np.bincount(things, minlength=1)[things] > 1
    return subjects[several], np.unique(things[several], return_inverse=True)[1], said[several]


def _reliability(subjects: Any, things: Any, said: Any, count: int, prior: float) -> tuple[Any, float, Any]:
    """(count,) probabilities of saying the truth, the crowd's mean, and (count,) how often each could be compared."""
    seen = np.bincount(subjects, minlength=count)
    crowd = sum(CROWD) / 2
    reliability = np.full(count, crowd)
    sign = np.where(said, 1.0, -1.0)
    for _ in range(ROUNDS if len(subjects) else 0):
        odds = np.log(reliability / (1 - reliability))
        truth = np.bincount(things, sign * odds[subjects])  # log-odds that it is true, of each thing
        right = 1 / (1 + np.exp(-np.clip(sign * truth[things], -30, 30)))
        crowd = float(np.clip(right.mean(), *CROWD))
        reliability = (prior * crowd + np.bincount(subjects, right, count)) / (prior + seen)
        reliability = np.clip(reliability, 0.02, 0.98)
    return reliability, crowd, seen
