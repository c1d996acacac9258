"""No subject and no rare prompt decides a batch: factors worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.influence import caps, voices_on
from training.recipe import Recipe
from training.settings import TrainingSettings


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    chosen = {
        "subject_share": 0.1, "subject_floor": 1, "prompt_share": 0.05, "prompt_floor": 1, "prompt_subjects": 3
    }  # fmt: skip
    settings = TrainingSettings(data_dir=tmp_path).overridden(chosen)
    return Recipe.of(settings, "heed", None, None)


def factors(said: list[tuple[int, int]], recipe: Recipe) -> list[float]:
    """Of votes of weight 1, each a subject and a prompt."""
    subjects, prompts = (np.array(column) for column in zip(*said, strict=True))
    return [round(float(one), 6) for one in caps(subjects, prompts, np.ones(len(said)), recipe)]


def test_a_loud_subject_keeps_its_share_of_what_was_said(recipe: Recipe) -> None:
    said = [(0, n) for n in range(20)] + [(1 + n, 100 + n) for n in range(20)]
    assert factors(said, recipe) == [0.2] * 20 + [1.0] * 20  # a tenth of 40 votes, over 20


def test_a_rare_prompt_keeps_its_share_and_a_prompt_of_many_does_not_lose(recipe: Recipe) -> None:
    said = [(n % 2, 0) for n in range(8)]  # two subjects, four votes each
    said += [(10 + n, 1) for n in range(8)]  # eight subjects, a vote each
    said += [(20 + n, 20 + n) for n in range(24)]
    assert factors(said, recipe) == [0.25] * 8 + [1.0] * 32  # a twentieth of 40 votes, over 8


def test_a_rare_prompt_of_a_loud_subject_is_capped_on_what_is_left_of_it(recipe: Recipe) -> None:
    said = [(0, 0) for _ in range(20)] + [(1 + n, 1 + n) for n in range(20)]
    left = 20 * 0.2 + 20  # of 40 votes, once the subject is held to its tenth
    assert factors(said, recipe) == [pytest.approx(0.05 * left / 20)] * 20 + [1.0] * 20


def test_the_floor_counts_where_a_share_would_be_less_than_a_few_votes(tmp_path: Path) -> None:
    recipe = Recipe.of(TrainingSettings(data_dir=tmp_path), "heed", None, None)
    said = [(0, n) for n in range(10)] + [(1 + n, 100 + n) for n in range(20)]
    assert factors(said, recipe) == [0.5] * 10 + [1.0] * 20  # five votes, where a twentieth of 30 were 1.5


def test_where_all_are_loud_nobody_is_capped(recipe: Recipe) -> None:
    said = [(n % 3, n) for n in range(60)]
    assert factors(said, recipe) == [1.0] * 60


def test_voices_are_counted_once_a_subject() -> None:
    assert voices_on(np.array([0, 0, 1, 2]), np.array([5, 5, 5, 6])).tolist() == [2, 2, 2, 1]


def test_nothing_has_no_factors(recipe: Recipe) -> None:
    none = np.zeros(0, np.int64)
    assert len(caps(none, none, np.zeros(0), recipe)) == 0
