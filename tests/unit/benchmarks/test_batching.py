"""What is measured when a batch is built, and what is told of it."""

from __future__ import annotations

import itertools
from pathlib import Path

from benchmarks.batching import archived, built, events_of, figures, round_built
from feedback.events import Comparison, Response, Vote


def test_there_is_a_vote_or_comparison_for_each_response_and_a_third_come_before_it() -> None:
    events = list(events_of(300))
    replies = {event.response_id: place for place, event in enumerate(events) if isinstance(event, Response)}
    said = [event for event in events if isinstance(event, Vote | Comparison)]
    assert (len(replies), len(said), len({event.event_id for event in events})) == (300, 300, 600)
    assert sum(isinstance(event, Comparison) for event in said) == 60
    early = sum(
        isinstance(a, Vote | Comparison) and a.time == b.time + 60 for a, b in itertools.pairwise(events)
    )
    assert early >= 100


def test_a_small_run_is_told_in_three_lines(tmp_path: Path) -> None:
    rows = [archived(tmp_path / "archive", 400), *built(tmp_path, 400), *round_built(tmp_path, 400)]
    found = {row["what"]: row for row in rows}
    assert (found["archive"]["events"], found["rebuilt"]["same_bytes"]) == (800, True)
    assert found["batch"]["examples"] == found["newest"]["examples"] > 350
    told = figures(
        [{**found["batch"], "per_second": 51234, "peak_mb": 612, "before_mb": 116}, *rows[:1], *rows[2:]]
    )
    assert told[0].heed == "51,234"
    assert told[0].beside.startswith("612 MB at most (116 before)")
    assert told[2].heed == "the same bytes"
