"""An experiment's report and gauges, out of counts worked out by hand."""

from __future__ import annotations

from dataclasses import replace

from feedback.events import Comparison, Label, Response, Vote
from feedback.protocols import Arm, ArmCounts, ExperimentRecord
from serve.criteria import by_criterion
from serve.reporting import gauges_of, report_of

ARMS = (Arm(name="control", adapter=None, share=0.5), Arm(name="new", adapter="a-1", share=0.5))
RECORD = ExperimentRecord(name="e", alias="heed", arms=ARMS, salt="x")
COUNTS = {
    "control": ArmCounts(exposures=100, subjects=50, up=20, down=20, errors=2, duration_seconds=50.0),
    "new": ArmCounts(exposures=100, subjects=50, up=30, down=10, completion_tokens=2000),
}


def test_figures_are_the_counts_and_intervals_hold_them() -> None:
    report = report_of(RECORD, COUNTS)
    control, new = report["arms"]
    assert (control["votes"], control["up_rate"], new["up_rate"]) == (40, 0.5, 0.75)
    assert control["guardrails"] == {"error_rate": 0.02, "duration_seconds": 0.5, "completion_tokens": 0.0}
    assert new["guardrails"]["completion_tokens"] == 20.0
    for arm in (control, new):
        assert 0 <= arm["up_rate_lower"] < arm["up_rate"] < arm["up_rate_upper"] <= 1
    assert new["probability_best"] > 0.95
    assert abs(control["probability_best"] + new["probability_best"] - 1) < 1e-9
    assert control["expected_loss"] > new["expected_loss"]
    assert [(one["arm"], one["action"]) for one in report["verdicts"]] == [("new", "wait")]


def test_an_experiment_nobody_saw_has_no_rates() -> None:
    report = report_of(RECORD, {})
    assert [arm["up_rate"] for arm in report["arms"]] == [None, None]
    assert report["srm_evidence"] == 1.0
    gauges = gauges_of(RECORD, {})
    assert gauges["experiment_up_rate"] == []
    assert gauges["experiment_srm_evidence"] == [{"labels": {"experiment": "e"}, "value": 1.0}]


def test_gauges_carry_experiment_and_arm() -> None:
    rows = gauges_of(RECORD, COUNTS)["experiment_up_rate"]
    assert rows[0] == {"labels": {"experiment": "e", "arm": "control"}, "value": 0.5}
    assert rows[1] == {"labels": {"experiment": "e", "arm": "new"}, "value": 0.75}


def response(name: str, arm: str) -> Response:
    return Response(
        event_id=name,
        response_id=name,
        time=1.0,
        alias="heed",
        adapter="base",
        arm=arm,
        subject="s",
        experiment="e",
    )


def vote(name: str, rating: str, time: float) -> Vote:
    return Vote(
        event_id=f"ev-{time}",
        feedback_id=f"fb-{name}",
        response_id=name,
        time=time,
        subject="s",
        rating=rating,  # type: ignore[arg-type]
        reasons=("tone",),
    )


def compared(*groups: tuple[str, ...], time: float) -> Comparison:
    return Comparison(
        event_id=f"ev-c{time}",
        feedback_id="fb-c",
        time=time,
        subject="s",
        ranking=groups,
        reasons=("tone",),
    )


def test_criteria_count_the_last_saying_and_average_labels() -> None:
    label = {"event_id": "ev-l", "feedback_id": "fb-1", "response_id": "r1", "time": 3.0, "subject": "s"}
    events = [
        response("r1", "control"),
        response("r2", "new"),
        vote("r1", "up", 1.0),
        vote("r1", "down", 2.0),
        vote("r2", "up", 1.0),
        vote("elsewhere", "up", 1.0),
        Label(**label, labels={"tone": 0.25}),  # type: ignore[arg-type]
        compared(("r1",), ("r2",), time=1.0),
        compared(("r2",), ("r1",), time=2.0),
    ]
    assert by_criterion("e", events) == {
        "control": {"tone": {"label_mean": 0.25, "labels": 1, "up": 0, "down": 1, "won": 0, "lost": 1}},
        "new": {"tone": {"label_mean": None, "labels": 0, "up": 1, "down": 0, "won": 1, "lost": 0}},
    }


def test_a_ranking_of_a_comparisons_sides_replaces_what_the_comparison_said_of_criteria() -> None:
    newer = replace(compared(("r2",), ("r1",), time=2.0), feedback_id="fb-ranking")
    events = [response("r1", "control"), response("r2", "new"), compared(("r1",), ("r2",), time=1.0), newer]
    tone = {arm: rows["tone"] for arm, rows in by_criterion("e", events).items()}
    assert [(tone[arm]["won"], tone[arm]["lost"]) for arm in ("control", "new")] == [(0, 1), (1, 0)]


def test_a_tie_wins_or_loses_no_criterion() -> None:
    events = [response("r1", "control"), response("r2", "new"), compared(("r1", "r2"), time=1.0)]
    assert by_criterion("e", events) == {}
