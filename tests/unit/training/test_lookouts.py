"""When what is live is looked at: by the hours, by what the last look saw, and by what is live."""

from __future__ import annotations

from typing import Any

import pytest

from feedback.protocols import AdapterRecord
from training.lookouts import due

LIVE = AdapterRecord(
    id="a-1", alias="heed", state="live", created=10.0, path="/a", base="b",
    history=(
        {"time": 20.0, "to": "canary"}, {"time": 1000.0, "to": "live"}, {"time": 2000.0, "to": "retired"},
        {"time": 3000.0, "to": "live"},
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("told", "live", "now", "hours", "wanted"),
    [
        ({}, LIVE, 6599.0, 1.0, False),  # an hour after it went live the last time
        ({}, LIVE, 6600.0, 1.0, True),
        ({}, LIVE, 1e9, 0.0, False),
        ({}, None, 1e9, 1.0, False),
        ({"time": 5000.0, "adapter": "a-0"}, LIVE, 8599.0, 1.0, False),  # another one went live since: all the same
        ({"time": 5000.0, "adapter": "a-0"}, LIVE, 8600.0, 1.0, True),
        ({"time": 100.0, "adapter": None}, LIVE, 6599.0, 1.0, False),  # the base was live until it came
        ({"time": 100.0, "adapter": None}, LIVE, 6600.0, 1.0, True),
        ({"time": 5000.0, "adapter": "a-1", "broken": ["refusals"]}, LIVE, 5599.0, 1.0, False),
        ({"time": 5000.0, "adapter": "a-1", "broken": ["refusals"]}, LIVE, 5600.0, 1.0, True),
        ({"time": 5000.0, "adapter": "a-1", "broken": ["refusals"]}, None, 5600.0, 1.0, True),  # rolled back
        ({"time": 5000.0, "adapter": None, "broken": []}, None, 1e9, 1.0, False),
    ],
)  # fmt: skip
def test_a_look_is_due_by_the_hours_and_sooner_after_one_that_saw_a_canary_break(
    told: dict[str, Any], live: AdapterRecord | None, now: float, hours: float, wanted: bool
) -> None:
    assert due(told, live, now, hours) is wanted


def test_an_adapter_without_a_history_is_as_old_as_its_record() -> None:
    fresh = AdapterRecord(id="a-2", alias="heed", state="live", created=100.0, path="/a", base="b")
    assert due({}, fresh, 3700.0, 1.0)
    assert not due({}, fresh, 3699.0, 1.0)
