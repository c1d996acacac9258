"""The gate's arithmetic, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from training.examples import Examples, Pair, Thumb
from training.gate import (
    agreement,
    at_least,
    at_most,
    knows_checks,
    mean_lower,
    repetition,
    report,
    rise_lower,
    variety,
    wilson_lower,
)
from training.reward_model import RewardScores
from training.rollouts import Reply


def reply(tokens: tuple[int, ...], text: str = "x") -> Reply:
    return Reply(text, (1,), tokens, (0.0,) * len(tokens), "stop")


def test_wilsons_lower_bound() -> None:
    # 60 of 100 at z 1.645: centre .6 + 2.706/200, half 1.645·√(.24/100 + 2.706/40000), over 1.02706
    assert wilson_lower(60, 100) == pytest.approx(0.5177, abs=5e-4)
    assert wilson_lower(0, 0) == 0.0


def test_the_lower_bound_of_a_rise() -> None:
    # Wilson: at least .5177 of 60 in 100, at most .4823 of 40; .2 − √(.0823² + .0823²)
    assert rise_lower(0.6, 0.4, 100) == pytest.approx(0.0836, abs=5e-4)
    # three of three against none: 3/(3 + 2.706) = .5257, so 1 − √(.4743² + .4743²)
    assert rise_lower(1.0, 0.0, 3) == pytest.approx(0.3293, abs=5e-4)
    assert rise_lower(0.3, 0.3, 50) < 0
    assert rise_lower(0.0, 0.0, 0) == 0.0


def test_the_lower_bound_of_a_mean() -> None:
    values = torch.tensor([1.0, 0.0, 1.0, 1.0])  # mean .75, deviation .5, error .25
    assert mean_lower(values) == pytest.approx(0.75 - 1.645 * 0.25, abs=1e-6)


def test_repeated_four_grams() -> None:
    # 1 2 1 2 1 2: grams 1212 2121 1212, one of three said before
    assert repetition([reply((1, 2, 1, 2, 1, 2))]) == pytest.approx(1 / 3)
    assert repetition([reply((1, 2, 3))]) == 0.0


def test_variety_is_different_over_all() -> None:
    assert variety([reply((1,), "a"), reply((1,), "a"), reply((1,), "b"), reply((1,), "c")]) == 0.75


def test_one_failed_check_fails_the_gate_and_is_the_reason() -> None:
    told = report([at_least("win_rate", 0.48, 0.5, "lower bound"), at_most("kl", 3.0, 15.0, "nats")])
    assert not told.passed
    assert told.reason == "lower bound 0.480, at least 0.500 wanted"
    assert [check["verdict"] for check in told.as_dict()["checks"]] == ["failed", "passed"]


class Whole:
    """Without heads for criteria."""

    def about(self, _reasons: tuple[str, ...]) -> tuple[str, ...]:
        return ()

    def judging(self, _names: tuple[str, ...]) -> Whole:
        return self


class Longer(Whole):
    """Likes the longer reply."""

    def score(self, conversations: list[tuple[object, str]]) -> RewardScores:
        lengths = torch.tensor([float(len(text)) for _, text in conversations])
        return RewardScores(lengths, torch.zeros_like(lengths))


class Indifferent(Whole):
    """Likes nothing."""

    def score(self, conversations: list[tuple[object, str]]) -> RewardScores:
        return RewardScores(torch.zeros(len(conversations)), torch.zeros(len(conversations)))


def test_agreement_counts_winners_and_thumbs_two_by_two() -> None:
    pairs = [Pair((), "long", "no", "win"), Pair((), "no", "long", "win"), Pair((), "a", "b", "tie")]
    thumbs = [Thumb((), "long", up=True), Thumb((), "no", up=False), Thumb((), "longest of all", up=False)]
    assert agreement(Longer(), Examples(pairs, thumbs)) == (2, 3)  # the third thumb finds no partner


class Torn(Longer):
    """Likes the longer reply overall, and the shorter where it is asked about brevity."""

    def about(self, reasons: tuple[str, ...]) -> tuple[str, ...]:
        return reasons or ("overall",)

    def judging(self, names: tuple[str, ...]) -> Whole:
        return Longer() if names == ("overall",) else Shorter()


class Shorter(Whole):
    """Likes the shorter reply."""

    def score(self, conversations: list[tuple[object, str]]) -> RewardScores:
        lengths = torch.tensor([-float(len(text)) for _, text in conversations])
        return RewardScores(lengths, torch.zeros_like(lengths))


def test_each_vote_is_told_by_the_head_it_speaks_for_and_weighs_as_much() -> None:
    overall = [Pair((), "long", "no", "win")] * 6 + [Pair((), "no", "long", "win")] * 2
    brevity = [Pair((), "no", "long", "win", reasons=("brevity",))] * 4
    same = Examples([*overall, *brevity], ())
    assert agreement(Torn(), same) == (pytest.approx(10), pytest.approx(12))
    # weights 1 and 3: 6 + 3·4 of 8 + 3·4 are agreed with, and tell as much as 20²/(8 + 9·4) votes of one weight
    right, n = agreement(Torn(), Examples([*overall, *brevity], (), criteria={"brevity": 3.0}))
    assert n == pytest.approx(400 / 44)
    assert right / n == pytest.approx(18 / 20)


def test_without_a_vote_there_is_nothing_to_agree_with() -> None:
    assert agreement(Longer(), Examples()) == (0, 0)


def test_a_model_that_likes_nothing_does_not_agree_with_users_who_like_little() -> None:
    sour = Examples([], [Thumb((), "x", up=number < 5) for number in range(100)])
    assert agreement(Indifferent(), sour) == (0, 5)
    assert not report(knows_checks(Indifferent(), Indifferent(), sour, sour)).passed


def test_reward_model_and_judge_are_asked_about_each_others_votes() -> None:
    short = Examples([Pair((), "long", "no", "win")] * 10, ())
    long = Examples([Pair((), "no", "long", "win")] * 30, ())
    votes, model, judge = knows_checks(Longer(), Longer(), learnt=long, judged=short)
    assert (model.value, judge.value) == (
        1.0,
        0.0,
    )  # the model was asked about the judge's, and the other way
    assert votes.value == pytest.approx(wilson_lower(10, 40))
    assert [check.verdict for check in (votes, model, judge)] == ["failed", "passed", "failed"]
