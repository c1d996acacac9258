"""What stands between a fit's log-odds and the probability of a vote."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from training.calibration import GRID, UNTOUCHED, Calibration

LOGITS = torch.tensor([2 * math.log(3), 0.0, -2 * math.log(3)])


def said(outcome: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(LOGITS, outcome, reduction="none")


def test_a_temperature_and_lapses_by_hand() -> None:
    # at temperature 2: ¾, ½ and ¼; of which a fifth is turned round: 0.6 · ¾ + 0.2
    told = Calibration(2.0, 0.2).probability(LOGITS)
    torch.testing.assert_close(told, torch.tensor([0.65, 0.5, 0.35]))


def test_however_far_apart_two_replies_are_lapses_remain() -> None:
    far = torch.tensor([80.0, -80.0])
    torch.testing.assert_close(Calibration(1.0, 0.1).probability(far), torch.tensor([0.9, 0.1]))


def test_the_likelihood_is_that_of_the_probability() -> None:
    outcome = torch.tensor([1.0, 1.0, 0.0])
    one = Calibration(1.0, 0.25)
    wanted = -torch.where(outcome == 1, one.probability(LOGITS), 1 - one.probability(LOGITS)).log()
    torch.testing.assert_close(one.nll(said, outcome), wanted)


def test_without_lapses_the_likelihood_is_what_it_was() -> None:
    outcome = torch.tensor([1.0, 0.0, 1.0])
    assert torch.equal(UNTOUCHED.nll(said, outcome), said(outcome))


def test_a_tie_turned_round_is_a_tie() -> None:
    def tie(outcome: Tensor) -> Tensor:
        return torch.where(outcome == 0.5, 0.7, 5.0)

    torch.testing.assert_close(Calibration(1.0, 0.3).nll(tie, torch.tensor([0.5])), torch.tensor([0.7]))


def test_no_vote_at_all_leaves_the_fit_as_sure_as_it_is() -> None:
    assert min(GRID, key=lambda one: one.surprise(0.5, 0.2)) == UNTOUCHED


def test_the_prior_by_hand() -> None:
    # (ln 4 / ln 2)² / 2 + 0.1 / 0.2
    assert Calibration(4.0, 0.1).surprise(math.log(2), 0.2) == pytest.approx(2.5)
