"""The review: a candidate is tried when it is proved, ramps, goes live or back, and waits where people decide."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from feedback.events import Response
from feedback.memory import MemoryEventLog, MemoryRegistry
from feedback.protocols import AdapterRecord, AliasRecord, LoopMode
from feedback.states import stopped
from training import review
from training.review import Review
from training.settings import TrainingSettings


class Scene:
    """A registry with one candidate that one engine has proved."""

    def __init__(self, mode: str = "auto", stages: str = "0.1,0.5") -> None:
        self.registry, self.log = MemoryRegistry(), MemoryEventLog()
        self.registry.put_alias(AliasRecord(name="heed", mode=mode))  # type: ignore[arg-type]
        self.settings = TrainingSettings(review_stages=stages, review_stage_seconds=0.0)
        self.add("a-000001-aaaaaaaaaaaa")
        self.registry.report_engine("engine-0", ["a-000001-aaaaaaaaaaaa"], 60)

    def add(self, name: str, *, passed_gate: bool = True, against: str | None = None) -> None:
        record = AdapterRecord(
            id=name, alias="heed", state="candidate", created=1e12, path="/x", base="b", newest_vote=1.0,
            gate={"passed": True, "against": against} if passed_gate else None,
        )  # fmt: skip
        self.registry.add_adapter(record)

    def look(self) -> str:
        return Review(self.registry, self.log, self.settings, self.registry.alias("heed")).look()

    def mode(self, mode: LoopMode) -> None:
        self.registry.put_alias(replace(self.registry.alias("heed"), mode=mode))

    def share(self) -> float:
        running = [e for e in self.registry.experiments("heed") if e.status == "running"]
        return running[0].arms[-1].share if running else 0.0

    def state(self, name: str = "a-000001-aaaaaaaaaaaa") -> str:
        return self.registry.adapter(name).state


def test_a_candidate_ramps_and_goes_live() -> None:
    scene = Scene()
    seen = []
    for _ in range(3):
        scene.look()
        seen.append((scene.share(), scene.state()))
    assert seen == [(0.1, "canary"), (0.5, "canary"), (0.0, "live")]
    assert scene.registry.alias("heed").live == "a-000001-aaaaaaaaaaaa"
    assert scene.registry.loop("heed")["freshness_seconds"] > 0


def test_a_candidate_that_no_engine_has_proved_is_not_tried() -> None:
    scene = Scene()
    scene.registry.report_engine("engine-1", [], 60)
    assert scene.look() == "a-000001-aaaaaaaaaaaa is not ready on every engine"
    assert scene.state() == "candidate"


def test_an_imported_adapter_that_passed_no_gate_waits_for_a_person() -> None:
    scene = Scene()
    scene.add("a-000002-bbbbbbbbbbbb", passed_gate=False)
    assert scene.look() == "a-000001-aaaaaaaaaaaa is tried on 10%"  # and not followed by the newer one
    assert scene.state("a-000002-bbbbbbbbbbbb") == "candidate"


def test_approval_waits_for_a_person() -> None:
    scene = Scene(mode="approve", stages="0.5")
    scene.look()
    assert "waits for a person" in scene.look()
    assert scene.state() == "canary"


def test_a_newer_candidate_retires_the_older_untried_one() -> None:
    scene = Scene()
    scene.add("a-000002-bbbbbbbbbbbb")
    scene.registry.report_engine("engine-0", ["a-000001-aaaaaaaaaaaa", "a-000002-bbbbbbbbbbbb"], 60)
    scene.look()
    assert scene.state() == "retired"
    assert scene.state("a-000002-bbbbbbbbbbbb") == "canary"


def test_an_experiment_of_people_is_left_alone() -> None:
    scene = Scene()
    scene.look()
    running = scene.registry.experiments("heed")[0]
    scene.registry.put_experiment(replace(running, owner="people"))
    assert scene.look() == "an experiment of people runs: the loop waits"


def test_a_rollback_ends_the_trial_and_what_was_on_trial_is_not_tried_again_by_itself() -> None:
    scene = Scene()
    scene.add("a-000000-000000000000")
    scene.registry.promote("heed", "a-000000-000000000000", "by hand")
    scene.look()
    (trial,) = scene.registry.experiments("heed")
    assert [arm.adapter for arm in trial.arms] == ["a-000000-000000000000", "a-000001-aaaaaaaaaaaa"]
    scene.registry.rollback("heed", "complaints")
    assert scene.look() == "no candidate that has passed the gate"
    assert scene.share() == 0.0
    left = scene.registry.adapter("a-000001-aaaaaaaaaaaa")
    assert (left.state, left.reason) == ("retired", "its trial ended: rolled back: complaints")
    scene.add("a-000002-bbbbbbbbbbbb")
    scene.registry.report_engine("engine-0", ["a-000002-bbbbbbbbbbbb"], 60)
    assert scene.look() == "a-000002-bbbbbbbbbbbb is tried on 10%"
    assert scene.registry.experiments("heed")[-1].arms[0].adapter is None


def test_a_candidate_begun_from_what_was_rolled_back_is_not_tried() -> None:
    scene, later = Scene(), "a-000002-bbbbbbbbbbbb"
    for _ in range(3):
        scene.look()
    scene.add(later, against="a-000001-aaaaaaaaaaaa")  # its round was under way
    scene.registry.report_engine("engine-0", ["a-000001-aaaaaaaaaaaa", later], 60)
    scene.registry.rollback("heed", "it flatters")
    why = "begun from a-000001-aaaaaaaaaaaa and held against it, which was taken back since"
    assert scene.look() == f"{later} is not tried: {why}"
    assert scene.state(later) == "retired"
    assert scene.look() == "no candidate that has passed the gate"


def test_a_trial_that_people_stop_does_not_hold_up_the_loop() -> None:
    scene = Scene()
    scene.look()
    (trial,) = scene.registry.experiments("heed")
    scene.registry.put_experiment(stopped(replace(trial, owner="people"), "seen enough"))
    scene.look()
    left = scene.registry.adapter("a-000001-aaaaaaaaaaaa")
    assert (left.state, left.reason) == ("retired", "its trial ended: seen enough")


def test_a_rollback_between_two_reads_begins_no_trial_against_what_was_left() -> None:
    scene = Scene()
    scene.add("a-000000-000000000000")
    scene.registry.promote("heed", "a-000000-000000000000", "by hand")
    late = Review(scene.registry, scene.log, scene.settings, scene.registry.alias("heed"))
    scene.registry.rollback("heed", "complaints")
    assert late.look().startswith("a-000001-aaaaaaaaaaaa is not tried yet")
    assert scene.look() == "a-000001-aaaaaaaaaaaa is tried on 10%"
    assert scene.registry.experiments("heed")[-1].arms[0].adapter is None


def test_a_trial_whose_beginning_was_cut_short_goes_on() -> None:
    scene = Scene(stages="0.1")
    scene.look()
    scene.registry.transition(
        "a-000001-aaaaaaaaaaaa", "candidate", "as a kill after the first write leaves it"
    )
    assert scene.look() == "a-000001-aaaaaaaaaaaa is live"


def broken_replies(experiment: str, arm: str = "candidate") -> list[Response]:
    """Of which those of one arm all failed."""
    events = []
    for number in range(300):
        side = arm if number % 2 else "control"
        events.append(
            Response(
                event_id=f"chatcmpl-{number}",
                response_id=f"chatcmpl-{number}",
                time=float(number),
                alias="heed",
                adapter="base",
                arm=side,
                subject=f"s-{number}",
                experiment=experiment,
                propensity=0.5,
                text="x",
                code=500 if side == arm else 200,
                completion_tokens=5,
                duration=0.1,
            )
        )
    return events


def test_errors_on_the_candidate_take_it_back() -> None:
    scene = Scene()
    scene.look()
    scene.log.append(broken_replies(scene.registry.experiments("heed")[0].name))
    scene.look()
    assert scene.state() == "rejected"
    assert "guardrail: errors" in (scene.registry.adapter("a-000001-aaaaaaaaaaaa").reason or "")
    assert scene.registry.alias("heed").live is None


def test_a_loop_that_is_off_tries_and_releases_nothing_and_still_takes_back_what_breaks() -> None:
    scene = Scene(mode="off")
    assert scene.look() == "the loop is off: a-000001-aaaaaaaaaaaa is not tried"
    assert scene.state() == "candidate"
    scene.mode("auto")
    scene.look()
    scene.mode("off")
    for _ in range(3):
        assert scene.look() == "the loop is off: a-000001-aaaaaaaaaaaa stays at 10%"
    assert (scene.share(), scene.state()) == (0.1, "canary")
    scene.log.append(broken_replies(scene.registry.experiments("heed")[0].name))
    scene.look()
    assert scene.state() == "rejected"


def test_a_candidate_that_waited_for_hours_is_not_rejected_because_everything_was_started_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene, now = Scene(), [2e12]  # long after it was made
    monkeypatch.setattr(review, "time", SimpleNamespace(time=lambda: now[0]))
    scene.registry.report_engine("engine-0", [], 1e-9)  # the engine is not there yet
    for _ in range(9):
        scene.look()
        now[0] += 30.0
    assert scene.state() == "candidate"
    scene.registry.report_engine("engine-0", [], 60)
    now[0] += 3600.0  # the workers were away, too, and come when it is there: its time begins
    for _ in range(5):
        scene.look()
        now[0] += 30.0
    assert scene.state() == "candidate"
    scene.look()
    assert scene.state() == "rejected"
