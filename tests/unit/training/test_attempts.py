"""The rests of a round that fails, and what ends them."""

from __future__ import annotations

from typing import Any

import pytest

from training.attempts import rest, rests

FAILED = {"last_round": {"ended": 100.0}, "retry_at": 105.0}


def test_each_rest_is_three_times_the_one_before() -> None:
    assert [rest(starts) for starts in (1, 2, 3)] == [5.0, 15.0, 45.0]


def test_eight_starts_span_an_hour_and_a_half() -> None:
    assert sum(rest(starts) for starts in range(1, 8)) == 5465.0


@pytest.mark.parametrize(
    ("state", "now", "resting"),
    [
        ({}, 100.0, False),
        (FAILED, 104.9, True),
        (FAILED, 105.0, False),
        (FAILED | {"retry_at": None}, 101.0, False),
        (FAILED | {"train_requested": 99.0}, 101.0, True),  # the wish that led to the failure
        (FAILED | {"train_requested": 101.0}, 102.0, False),  # somebody mended it and asks again
    ],
)
def test_a_round_rests_after_a_failure_until_its_time_or_a_new_wish(
    state: dict[str, Any], now: float, resting: bool
) -> None:
    assert rests(state, now) is resting
