"""How much of a batch one subject and one rare prompt may decide.

One account's votes must not plant a fact for everybody (arXiv 2507.02850): neither by voting a lot, nor by voting on
a prompt that nobody else asks. Work is done on numbers: (n,) codes of subjects and prompts, and weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from training.recipe import Recipe


def caps(subjects: Any, prompts: Any, weights: Any, recipe: Recipe) -> Any:
    """(n,) factors in (0, 1]: first no subject exceeds its share, then no rare prompt its own of what is left."""
    if not len(weights):
        return np.ones(0)
    own = _within(subjects, weights, recipe.subject_share, recipe.subject_floor)
    rare = voices_on(subjects, prompts) < recipe.prompt_subjects
    on_prompts = _within(prompts, weights * own, recipe.prompt_share, recipe.prompt_floor)
    return own * np.where(rare, on_prompts, 1.0)


def voices_on(subjects: Any, prompts: Any) -> Any:
    """(n,) how many subjects spoke about each row's prompt."""
    pairs = np.unique(prompts.astype(np.int64) * (int(subjects.max()) + 1) + subjects)
    return np.bincount(pairs // (int(subjects.max()) + 1))[prompts]


def _within(groups: Any, weights: Any, share: float, floor: float) -> Any:
    """(n,) factors that keep each group within its share of all weight, or the floor where that is more. Ones where
    the groups are so few that the cap would only shrink them all.
    """
    totals = np.bincount(groups, weights)
    whole = weights.sum()
    cap = max(floor, share * whole)
    if np.count_nonzero(totals) * cap < whole:
        return np.ones(len(weights))
    return np.minimum(1.0, cap / np.maximum(totals, 1e-12))[groups]
