"""Who is trusted: those who say what others say, those who said little, and those who were alone."""

from __future__ import annotations

import numpy as np
import pytest

from training.agreement import trust

PRIOR, FLOOR = 8.0, 0.1


def trusted(said: list[tuple[int, int, bool]]) -> list[float]:
    """Of sayings (subject, thing, said)."""
    subjects, things, told = (np.array(column) for column in zip(*said, strict=True))
    return [float(one) for one in trust(subjects, things, told, PRIOR, FLOOR)]


def crowd(rng: np.random.Generator, rates: list[float], things: int) -> list[tuple[int, int, bool]]:
    """Everybody judges everything, right at the given rates."""
    truth = rng.random(things) < 0.5
    return [
        (subject, thing, bool(truth[thing] == (rng.random() < rate)))
        for subject, rate in enumerate(rates)
        for thing in range(things)
    ]


def test_who_is_alone_with_what_he_judged_counts_whole() -> None:
    assert trusted([(0, 0, True), (1, 1, False), (2, -1, True), (2, -1, False)]) == [1.0, 1.0, 1.0]


def test_nobody_said_anything() -> None:
    none = np.zeros(0, np.int64)
    assert len(trust(none, none, np.zeros(0, bool), PRIOR, FLOOR)) == 0


def test_one_disagreement_of_a_rater_of_few_votes_costs_nothing() -> None:
    said = [(0, thing, True) for thing in range(3)] + [(1, 0, False), (1, 1, True), (1, 2, True)]
    assert trusted(said) == [1.0, 1.0]


@pytest.mark.parametrize("seed", range(5))
def test_honest_raters_keep_their_weight_and_contrary_and_random_ones_lose_it(seed: int) -> None:
    weights = trusted(crowd(np.random.default_rng(seed), [0.75] * 8 + [0.5, 0.1], 200))
    assert min(weights[:8]) > 0.9
    assert weights[8] < 0.8
    assert weights[9] == FLOOR


def test_the_more_a_contrary_rater_has_said_the_less_he_counts() -> None:
    weights = []
    for count in (0, 2, 6, 20, 60):
        said = [(subject, thing, True) for subject in range(4) for thing in range(60)]
        said += [(4, thing, False) for thing in range(count)] or [(4, -1, False)]
        weights.append(trusted(said)[4])
    assert weights[0] == 1.0
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] == FLOOR


def test_the_last_word_of_a_subject_on_a_thing_is_the_one_that_is_compared() -> None:
    others = [(subject, thing, True) for subject in range(3) for thing in range(20)]
    turned = [(3, thing, said) for thing in range(20) for said in (False, True)]
    assert trusted(others + turned) == [1.0, 1.0, 1.0, 1.0]


def test_of_two_who_differ_on_half_of_all_neither_is_blamed() -> None:
    said = [(0, thing, True) for thing in range(40)] + [(1, thing, thing % 2 == 0) for thing in range(40)]
    assert trusted(said) == [1.0, 1.0]  # nobody can tell which of two is wrong
