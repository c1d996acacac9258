"""What an alias may set for itself of the loop, and what would stop the workers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from feedback.errors import InvalidRecord
from feedback.thresholds import Thresholds, check_thresholds
from training.settings import TrainingSettings


def test_each_threshold_may_be_set_to_its_default() -> None:
    check_thresholds(Thresholds().model_dump())


@pytest.mark.parametrize(
    ("thresholds", "field"),
    [
        ({"round_min_votes": 0.0}, "thresholds.round_min_votes"),
        ({"round_min_votes": 1.5}, "thresholds.round_min_votes"),
        ({"gate_max_kl": 5.0, "holdout_share": 1.0}, "thresholds.holdout_share"),
        ({"round_min_voters": 5.0}, "thresholds.round_min_voters"),
        ({"redis_url": 5.0}, "thresholds.redis_url"),
        ({"gate_max_kl": True}, "thresholds.gate_max_kl"),
        ({"round_min_votes": False}, "thresholds.round_min_votes"),
        ({"round_min_votes": "5"}, "thresholds.round_min_votes"),
        ({"ppo_seconds": None}, "thresholds.ppo_seconds"),
        ({"ppo_seconds": math.inf}, "thresholds.ppo_seconds"),
        ({"gate_max_kl": math.nan}, "thresholds.gate_max_kl"),
    ],
)
def test_what_the_workers_could_not_work_with_is_named(thresholds: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        check_thresholds(thresholds)
    assert caught.value.field == field


def test_an_alias_overrides_its_thresholds_and_nothing_else_of_the_workers() -> None:
    own = TrainingSettings().overridden({"round_min_votes": 7.0, "tick_seconds": 99.0})
    assert own.round_min_votes == 7
    assert own.tick_seconds == TrainingSettings().tick_seconds
