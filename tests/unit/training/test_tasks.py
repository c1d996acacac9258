"""When a round is due."""

from __future__ import annotations

from typing import Any

import pytest

from training.settings import TrainingSettings
from training.tasks import wants_round

SETTINGS = TrainingSettings(round_min_votes=50, round_quiet_votes=20, round_quiet_seconds=8.0)


@pytest.mark.parametrize(
    ("state", "total", "due"),
    [
        ({}, 49, False),
        ({}, 50, True),
        ({"taken_votes": 50}, 99, False),
        ({"taken_votes": 50}, 100, True),
        ({"votes_changed": 95.0}, 20, False),  # five seconds of quiet are too few
        ({"votes_changed": 92.0}, 20, True),
        ({"votes_changed": 0.0}, 19, False),
        ({"train_requested": 99.0}, 0, True),
        ({"unfinished": "/some/batch"}, 0, True),
    ],
)
def test_a_round_is_due_with_enough_votes_a_pause_a_wish_or_unfinished_work(
    state: dict[str, Any], total: int, due: bool
) -> None:
    assert wants_round(state, total, 100.0, SETTINGS) is due
