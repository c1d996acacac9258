"""The formulas of PPO, worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from training.ppo import (
    Batch,
    Value,
    final_scores,
    gae,
    importance,
    k3,
    leave_one_out,
    next_beta,
    policy_loss,
    value_loss,
    whiten,
)
from training.ppo_config import PPOConfig, PPOReport

CLIPS = PPOConfig(clip_low=0.2, clip_high=0.28, dual_clip=3.0)


def test_generalised_advantages_of_two_replies_of_unequal_length() -> None:
    rewards = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 0.0]])
    values = torch.tensor([[0.5, 1.0, 1.5], [2.0, 1.0, 0.0]])
    # first: δ = (0 + 1 − .5, 1 + 1.5 − 1, 2 − 1.5) = (.5, 1.5, .5); from the end .5, 1.5 + .5·.5, .5 + .5·1.75
    # second: δ = (3 + 1 − 2, 4 − 1) = (2, 3); from the end 3, 2 + .5·3
    wanted = torch.tensor([[1.375, 1.75, 0.5], [3.5, 3.0, 0.0]])
    torch.testing.assert_close(gae(rewards, values, 0.5), wanted)


def test_advantages_at_lambda_one_are_the_rewards_to_come_less_the_value_and_at_zero_the_error_of_one_step() -> (
    None
):
    rewards, values = torch.tensor([[1.0, -2.0, 4.0]]), torch.tensor([[0.5, 2.0, -1.0]])
    torch.testing.assert_close(gae(rewards, values, 1.0), torch.tensor([[2.5, 0.0, 5.0]]))
    torch.testing.assert_close(gae(rewards, values, 0.0), torch.tensor([[2.5, -5.0, 5.0]]))


def test_each_return_is_held_against_the_others_of_its_group() -> None:
    returns = torch.tensor([1.0, 2.0, 6.0, 5.0, 5.0, 5.0])
    # 1 − (2+6)/2, 2 − (1+6)/2, 6 − (1+2)/2; then all alike
    torch.testing.assert_close(leave_one_out(returns, 3), torch.tensor([-3.0, -1.5, 4.5, 0.0, 0.0, 0.0]))


def test_k3_is_zero_where_nothing_moved_and_else_above() -> None:
    old = torch.log(torch.tensor([0.5, 0.5, 0.5]))
    new = torch.log(torch.tensor([0.5, 0.25, 1.0]))
    # r − 1 − log r at r = 1, ½, 2
    torch.testing.assert_close(k3(new, old), torch.tensor([0.0, 0.5 - 1 + math.log(2), 2 - 1 - math.log(2)]))


def test_k3_averages_to_the_divergence_from_the_sampling_policy() -> None:
    old, new = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.3, 0.2])
    divergence = (old * (old / new).log()).sum()
    torch.testing.assert_close((old * k3(new.log(), old.log())).sum(), divergence)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope", "outside"),
    [  # slope: of the loss in log π, which is −ratio·advantage where the ratio itself counts, else 0
        (1.0, 2.0, -2.0, -2.0, False),
        (1.2, 2.0, -2.4, -2.4, False),
        (1.5, 2.0, -2.56, 0.0, True),  # above 1.28: no more to be gained
        (0.5, 2.0, -1.0, -1.0, False),  # below 0.8, but it got worse: pulled back
        (1.5, -2.0, 3.0, 3.0, False),  # above 1.28, but it got worse: pulled back
        (0.9, -2.0, 1.8, 1.8, False),
        (0.5, -2.0, 1.6, 0.0, True),  # below 0.8
        (4.0, -2.0, 6.0, 0.0, False),  # the dual clip: not worse than 3 × the advantage
        (4.0, 2.0, -2.56, 0.0, True),  # the dual clip is for bad tokens alone
    ],
)
def test_the_clipped_surrogate_and_its_slope(
    ratio: float, advantage: float, loss: float, slope: float, outside: bool
) -> None:
    old = torch.tensor([-1.3])
    new = (old + math.log(ratio)).requires_grad_()
    told, clipped = policy_loss(new, old, torch.tensor([advantage]), CLIPS)
    told.sum().backward()
    assert told.item() == pytest.approx(loss, abs=1e-5)
    assert new.grad is not None
    assert new.grad.item() == pytest.approx(slope, abs=1e-5)
    assert clipped.tolist() == [outside]


def test_the_value_may_move_only_so_far_towards_the_return() -> None:
    old, returns = torch.zeros(3), torch.tensor([1.0, 1.0, -1.0])
    new = torch.tensor([0.1, 0.5, 0.5], requires_grad=True)
    # errors .9, max(.5, 1 − .2), max(1.5, 1 + .2); squares .81, .64, 2.25
    loss = value_loss(new, old, returns, 0.2)
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * (0.81 + 0.64 + 2.25) / 3)
    assert new.grad is not None
    torch.testing.assert_close(new.grad, torch.tensor([-0.9, 0.0, 1.5]) / 3)


@pytest.mark.parametrize(
    ("kl", "factor"),
    [
        (6.0, 1.0),
        (6.6, 1 + 0.1 * 128 / 2000),
        (12.0, 1 + 0.2 * 128 / 2000),  # the error is cut at 0.2
        (5.4, 1 - 0.1 * 128 / 2000),
        (0.0, 1 - 0.2 * 128 / 2000),
        (-1.0, 1 - 0.2 * 128 / 2000),
    ],
)
def test_the_weight_of_the_kl_follows_the_error(kl: float, factor: float) -> None:
    assert next_beta(0.1, kl, 6.0, 128, 2000.0) == pytest.approx(0.1 * factor)


def test_scores_are_cut_at_five_and_a_reply_that_is_not_whole_gets_minus_one_or_worse() -> None:
    raw = torch.tensor([0.3, 7.0, -9.0, 0.3, -2.0, -9.0])
    whole = torch.tensor([True, True, True, False, False, False])
    wanted = torch.tensor([0.3, 5.0, -5.0, -1.0, -2.0, -5.0])
    torch.testing.assert_close(final_scores(raw, whole), wanted)


def test_a_new_value_network_says_zero() -> None:
    torch.testing.assert_close(Value(6)(torch.randn(4, 3, 6)), torch.zeros(4, 3))


def test_the_tokens_of_chosen_conversations_stand_in_their_order() -> None:
    empty = torch.empty(0)
    batch = Batch(tokens=[], sizes=[2, 3, 1], scores=empty, old=empty, kl=empty, states=empty, weight=empty)
    assert batch.at([2, 0]).tolist() == [5, 0, 1]
    assert batch.at([1]).tolist() == [2, 3, 4]


def test_whitening_counts_what_is_inside_alone() -> None:
    values = torch.tensor([1.0, 3.0, 100.0, 5.0])
    inside = torch.tensor([True, True, False, True])
    # mean 3, variance ((−2)² + 0 + 2²)/2 = 4
    torch.testing.assert_close(whiten(values, inside), torch.tensor([-1.0, 0.0, 48.5, 1.0]))


def test_a_token_weighs_what_the_trainer_holds_against_the_sampler_up_to_the_cap() -> None:
    sampler = torch.log(torch.tensor([0.5, 0.2, 0.1, 0.4]))
    trainer = torch.log(torch.tensor([0.4, 0.3, 0.9, 0.4]))
    config = PPOConfig(importance_cap=2.0, sequence_limit=100.0)
    told = importance(trainer, sampler, [3, 1], config)
    torch.testing.assert_close(told, torch.tensor([0.8, 1.5, 2.0, 1.0]))  # 9 is cut at 2


@pytest.mark.parametrize(
    ("ratios", "weights"),
    [
        ([1.1, 1.1], [1.1, 1.1]),
        ([1.5, 0.8], [1.5, 0.8]),  # geometric mean √1.2 = 1.095
        ([1.3, 1.3], [0.0, 0.0]),  # above 1.2: said by another policy
        ([0.7, 0.9], [0.0, 0.0]),  # √0.63 = 0.794 is below 1/1.2
        ([0.8, 0.9], [0.8, 0.9]),  # √0.72 = 0.849 is not
    ],
)
def test_a_reply_that_another_policy_said_is_left_out_whole(
    ratios: list[float], weights: list[float]
) -> None:
    sampler = torch.tensor([-1.0, -2.0, -0.5])
    trainer = sampler + torch.tensor([*ratios, 1.0]).log()
    told = importance(trainer, sampler, [2, 1], PPOConfig(sequence_limit=1.2))
    torch.testing.assert_close(told, torch.tensor([*weights, 1.0]))


def test_k1_and_k3_of_one_token_by_hand() -> None:
    """As the report tells them: k1 = log ¼ − log ½ may be negative, k3 = ½/¼ − 1 − log 2 may not."""
    policy, reference = torch.tensor([0.25]).log(), torch.tensor([0.5]).log()
    k1 = policy - reference
    assert k1.item() == pytest.approx(-math.log(2))
    assert k3(-k1, torch.zeros(1)).item() == pytest.approx(1 - math.log(2))


def test_a_curve_has_a_point_a_step_with_every_figure_of_it() -> None:
    report = PPOReport(steps=3, samples=12, reward_last=0.5, stopped="", kl_nats=2.0)
    report.write_down(7.5)
    report.reward_last = 0.75
    report.write_down(8.0)
    assert [point["reward_last"] for point in report.curve] == [0.5, 0.75]
    assert [point["tokens"] for point in report.curve] == [7.5, 8.0]
    assert report.curve[0]["kl_nats"] == 2.0
    assert all(isinstance(value, float) for point in report.curve for value in point.values())
    assert "curve" not in report.curve[0]
