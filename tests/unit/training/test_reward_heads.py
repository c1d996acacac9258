"""The likelihoods of votes by hand, and one head's optimum against scipy's."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from training.calibration import Calibration
from training.reward_heads import Head, RewardConfig, Votes, davidson_nll, fit_head, loss, vote_nll

CONFIG = RewardConfig(strength=2.0, offset_strength=4.0, heads=5, iterations=60, folds=4, seed=0)
NOBODY = torch.zeros(0)


def votes_of(
    difference: list[list[float]],
    outcome: list[float],
    features: list[list[float]] | None = None,
    up: list[float] | None = None,
    subject: list[int] | None = None,
) -> Votes:
    width = len((difference or features or [[]])[0])
    thumbs = up or []
    return Votes(
        difference=torch.tensor(difference).reshape(-1, width),
        outcome=torch.tensor(outcome),
        pair_weight=torch.ones(len(outcome)),
        features=torch.tensor(features or []).reshape(-1, width),
        up=torch.tensor(thumbs),
        subject=torch.tensor(subject or [0] * len(thumbs)).long(),
        thumb_weight=torch.ones(len(thumbs)),
        subjects=1 + max(subject or [0]),
    )


# --- the likelihoods ------------------------------------------------------------------------------------------


def test_davidsons_probabilities_of_winning_losing_and_a_tie() -> None:
    # e^(d/2) : e^(−d/2) : ν = 2 : ½ : 1 at d = 2 ln 2, ν = 1; all alike at d = 0
    d = torch.tensor([2 * math.log(2)] * 3 + [0.0] * 3)
    outcome = torch.tensor([1.0, 0.0, 0.5] * 2)
    wanted = -torch.tensor([4 / 7, 1 / 7, 2 / 7, 1 / 3, 1 / 3, 1 / 3]).log()
    torch.testing.assert_close(davidson_nll(d, outcome, torch.tensor(0.0)), wanted)


def test_where_ties_never_happen_davidson_is_bradley_and_terry() -> None:
    d = torch.tensor([1.7, -0.4])
    never = torch.tensor(-60.0)
    wanted = -torch.sigmoid(torch.tensor([1.7, 0.4])).log()
    torch.testing.assert_close(davidson_nll(d, torch.tensor([1.0, 0.0]), never), wanted)


def test_a_thumb_is_logistic_in_the_score_over_the_threshold_and_the_subjects_own() -> None:
    votes = votes_of([[1.0, 0.0]], [1.0], [[2.0, 1.0]] * 2, [1.0, 0.0], [0, 1])
    head = Head(torch.tensor([1.0, 0.5]), torch.tensor(0.5), torch.tensor([2.0, -1.0]), torch.tensor(-60.0))
    pairs, thumbs = vote_nll(head, votes)
    # scores 2.5, less ½, less 2 or −1: 0 and 3; the pair's d is 1
    torch.testing.assert_close(thumbs, -torch.tensor([0.5, 1 / (1 + math.e**3)]).log())
    torch.testing.assert_close(pairs, -torch.tensor([1 / (1 + 1 / math.e)]).log())
    _, cooler = vote_nll(head, votes, Calibration(temperature=3.0))
    torch.testing.assert_close(cooler, -torch.tensor([0.5, 1 / (1 + math.e)]).log())
    pairs, thumbs = vote_nll(head, votes, Calibration(lapse=0.25))
    # a quarter is turned round: ¾·p + ¼·(1 − p)
    torch.testing.assert_close(thumbs, -torch.tensor([0.5, 0.25 + 0.5 / (1 + math.e**3)]).log())
    torch.testing.assert_close(pairs, -torch.tensor([0.25 + 0.5 / (1 + 1 / math.e)]).log())


def test_the_loss_is_votes_and_pulls_over_the_weight_of_the_votes() -> None:
    votes = votes_of([[1.0]], [1.0], [[1.0]], [1.0])
    votes.pair_weight, votes.thumb_weight = torch.tensor([2.0]), torch.tensor([3.0])
    head = Head(torch.tensor([1.0]), torch.tensor(1.0), torch.tensor([0.5]), torch.tensor(0.0))
    pair = -math.log(math.exp(0.5) / (math.exp(0.5) + math.exp(-0.5) + 1))
    thumb = math.log(1 + math.exp(0.5))  # score 1 less 1 less ½
    # weights pulled by 2 from 1 to ¼, offset by 4 from ½, log ν by 1 from 0 to −1, threshold by 0.1 from 1
    pulls = (2 * 0.75**2 + 4 * 0.5**2 + 1 + 0.1) / 2
    wanted = (2 * pair + 3 * thumb + pulls) / 5
    assert float(loss(head, votes, CONFIG, torch.tensor([0.25]))) == pytest.approx(wanted, rel=1e-5)


# --- the fit of one head --------------------------------------------------------------------------------------


def random_votes(n: int, weights: torch.Tensor, seed: int = 0) -> Votes:
    """Pairs and thumbs drawn from the model with these weights, ν = ½, threshold ½, no offsets."""
    generator = torch.Generator().manual_seed(seed)
    difference, features = (torch.randn((n, len(weights)), generator=generator) for _ in range(2))
    d = difference @ weights
    odds = torch.stack([(d / 2).exp(), (-d / 2).exp(), torch.full((n,), 0.5)], 1)
    said = torch.tensor([1.0, 0.0, 0.5])[torch.multinomial(odds, 1, generator=generator)[:, 0]]
    up = (torch.rand(n, generator=generator) < torch.sigmoid(features @ weights - 0.5)).float()
    return votes_of(difference.tolist(), said.tolist(), features.tolist(), up.tolist(), [0, 1] * (n // 2))


def test_the_fit_is_the_optimum_that_scipy_finds() -> None:
    votes = random_votes(60, torch.tensor([1.0, -2.0, 0.0]))
    prior = torch.tensor([0.3, -0.1, 0.2])

    def value(flat: np.ndarray) -> float:
        parts = torch.tensor(flat, dtype=torch.float32).split([3, 1, 2, 1])
        return float(loss(Head(parts[0], parts[1][0], parts[2], parts[3][0]), votes, CONFIG, prior))

    best = minimize(value, np.zeros(7), method="Powell", options={"xtol": 1e-5, "ftol": 1e-9}).x
    found = torch.cat([part.reshape(-1) for part in fit_head(votes, CONFIG, prior).parts()])
    torch.testing.assert_close(found, torch.tensor(best, dtype=torch.float32), atol=5e-3, rtol=5e-3)


def test_many_votes_give_back_the_weights_they_were_drawn_from() -> None:
    planted = torch.tensor([1.0, -2.0, 0.0, 0.5])
    head = fit_head(random_votes(8000, planted), CONFIG)
    torch.testing.assert_close(head.weights, planted, atol=0.12, rtol=0)
    assert float(head.threshold + head.offsets.mean()) == pytest.approx(0.5, abs=0.12)
    assert float(head.log_tie) == pytest.approx(math.log(0.5), abs=0.12)


def test_without_votes_the_weights_stay_where_they_are_pulled() -> None:
    prior = torch.tensor([0.5, -1.0])
    votes = votes_of([[1.0, 1.0]], [1.0])
    head = fit_head(votes.weighted(torch.zeros(1), NOBODY), CONFIG, prior)
    torch.testing.assert_close(head.weights, prior)


def test_ties_say_how_likely_a_tie_is_and_that_the_two_are_alike() -> None:
    wins, ties = [[0.0]] * 500, [[0.0]] * 500
    head = fit_head(votes_of(wins + ties, [1.0] * 500 + [0.5] * 500), CONFIG)
    assert float(head.log_tie) == pytest.approx(math.log(2), abs=0.02)  # ν/(2 + ν) = ½
    strong = fit_head(votes_of([[1.0]] * 20, [1.0] * 20), CONFIG)
    mixed = fit_head(votes_of([[1.0]] * 40, [1.0] * 20 + [0.5] * 20), CONFIG)
    assert float(mixed.weights[0]) < float(strong.weights[0])
    assert float(mixed.weights[0]) > 0


def test_a_subjects_habit_goes_into_its_own_offset_not_into_the_weights() -> None:
    """A grumbler saw only replies with the feature, a praiser only those without; a fair one sees no merit."""
    features = [[1.0]] * 40 + [[-1.0]] * 40 + [[1.0], [-1.0]] * 20
    up = [0.0] * 40 + [1.0] * 40 + [1.0, 0.0, 0.0, 1.0] * 10
    votes = votes_of([], [], features, up, [0] * 40 + [1] * 40 + [2] * 40)
    free, stiff = (fit_head(votes, replace(CONFIG, offset_strength=pull)) for pull in (0.01, 1e4))
    assert float(free.offsets[0]) > 2
    assert float(free.offsets[1]) < -2
    assert abs(float(free.offsets[2])) < 0.2
    assert abs(float(free.weights[0])) < 0.2
    assert float(stiff.weights[0]) < -1  # without offsets the habits pass for a preference
    assert float(stiff.offsets.abs().max()) < 0.01


def test_a_vote_of_weight_two_counts_as_two_votes() -> None:
    votes = random_votes(30, torch.tensor([1.0, -1.0]))
    twice = votes.weighted(torch.full((30,), 2.0), torch.full((30,), 2.0))
    parts = {
        name: torch.cat([getattr(votes, name)] * 2)
        for name in ("difference", "outcome", "pair_weight", "features", "up", "subject", "thumb_weight")
    }
    ours, theirs = fit_head(twice, CONFIG), fit_head(replace(votes, **parts), CONFIG)
    torch.testing.assert_close(ours.weights, theirs.weights, atol=2e-3, rtol=2e-3)
