"""The gate's arithmetic, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from training.gate import at_least, at_most, mean_lower, repetition, report, variety, wilson_lower
from training.rollouts import Reply


def reply(tokens: tuple[int, ...], text: str = "x") -> Reply:
    return Reply(text, (1,), tokens, (0.0,) * len(tokens), "stop")


def test_wilsons_lower_bound() -> None:
    # 60 of 100 at z 1.645: centre .6 + 2.706/200, half 1.645·√(.24/100 + 2.706/40000), over 1.02706
    assert wilson_lower(60, 100) == pytest.approx(0.5177, abs=5e-4)
    assert wilson_lower(0, 0) == 0.0


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
