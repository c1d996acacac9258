"""What the workers tell of themselves, in the registry's in-process twin."""

from __future__ import annotations

import time
from typing import Any

import pytest

from feedback.memory import MemoryRegistry
from training.gate import at_least, at_most, report
from training.reward_model import RewardReport
from training.status import HISTORY, WORKERS, Status, broke, worked

FIGURES = RewardReport(
    pairs=3,
    thumbs=4,
    holdout=2,
    accuracy=0.75,
    nll=0.5,
    train_accuracy=0.9,
    calibration_error=0.04,
    temperature=1.0,
    lapse=0.0,
    tie_log_odds=-1.0,
    fold_accuracy=0.7,
)


class Clock:
    """Seconds that pass only when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def status(registry: MemoryRegistry) -> Status:
    return Status(registry, "heed")


def told(registry: MemoryRegistry, *names: str) -> tuple[Any, ...]:
    return tuple(registry.loop("heed").get(name) for name in names)


def metric(registry: MemoryRegistry, name: str) -> Any:
    return registry.loop("heed")["metrics"].get(name)


def test_a_step_shows_how_far_it_is_and_how_long_it_will_take(
    registry: MemoryRegistry, status: Status, clock: Clock
) -> None:
    status.step("ppo", 0.0)
    assert told(registry, "step", "progress", "eta_seconds", "step_started") == ("ppo", 0.0, None, 1000.0)
    clock.now += 10
    status.progress("ppo", 0.25, {"reward": 0.5})
    assert told(registry, "progress", "eta_seconds", "figures") == (0.25, 30.0, {"reward": 0.5})
    assert told(registry, "step_started") == (1000.0,)


def test_a_step_that_was_taken_up_half_way_tells_its_own_pace(
    registry: MemoryRegistry, status: Status, clock: Clock
) -> None:
    status.step("ppo", 0.0)
    told_of = []
    for share in (0.5, 0.6, 0.8):
        clock.now += 10
        status.progress("ppo", share, {})
        told_of.append(told(registry, "eta_seconds")[0])
    # nothing is known but the start at first; then 0.1 in 10 s, and 0.3 in 20 s
    assert told_of == [pytest.approx(10.0), pytest.approx(40.0), pytest.approx(20 * 0.2 / 0.3)]


def test_progress_is_written_at_most_twice_a_second_but_the_end_always(
    registry: MemoryRegistry, status: Status, clock: Clock
) -> None:
    status.step("ppo", 0.0)
    seen = []
    for share, later in ((0.1, 0.4), (0.2, 0.2), (0.3, 0.4), (1.0, 0.0)):
        clock.now += later
        status.progress("ppo", share, {})
        seen += told(registry, "progress")
    assert seen == [0.0, 0.2, 0.2, 1.0]


def test_a_new_step_does_not_show_the_figures_of_the_last(
    registry: MemoryRegistry, status: Status, clock: Clock
) -> None:
    status.step("ppo", 0.0)
    clock.now += 1
    status.progress("ppo", 0.5, {"reward": 0.5})
    status.step("gate", 0.0)
    assert told(registry, "step", "figures") == ("gate", {})


def test_the_gauges_of_different_parts_stand_beside_each_other(
    registry: MemoryRegistry, status: Status
) -> None:
    status.reward_model("b-1", FIGURES, FIGURES)
    status.ppo(
        "b-1", {"reward_last": 0.5, "kl_nats": 3.0, "clip_fraction": 0.1, "entropy_nats": 1.5, "samples": 64}
    )
    assert metric(registry, "reward_model_accuracy") == [
        {"labels": {"split": "holdout"}, "value": 0.75},
        {"labels": {"split": "train"}, "value": 0.9},
    ]
    assert metric(registry, "reward_model_calibration_error") == 0.04
    names = ("ppo_reward", "ppo_kl_nats", "ppo_clip_fraction", "ppo_entropy_nats", "ppo_samples_total")
    assert [metric(registry, name) for name in names] == [0.5, 3.0, 0.1, 1.5, 64]
    (said,) = told(registry, "last_reward_model")
    assert (said["batch"], said["accuracy"], said["judge_accuracy"], said["fold_accuracy"]) == (
        "b-1", 0.75, 0.75, 0.7
    )  # fmt: skip


def test_samples_and_checks_are_counted_on_over_rounds(registry: MemoryRegistry, status: Status) -> None:
    run = {"reward_last": 0.0, "kl_nats": 0.0, "clip_fraction": 0.0, "entropy_nats": 0.0}
    for batch, samples in (("b-1", 64), ("b-2", 32)):
        status.ppo(batch, {**run, "samples": samples})
    assert metric(registry, "ppo_samples_total") == 96
    for kl in (3.0, 20.0, 30.0):
        status.gate(report([at_least("win_rate", 0.6, 0.5, "wins"), at_most("kl", kl, 15.0, "nats")]))
    assert metric(registry, "gate_checks_total") == [
        {"labels": {"check": "kl", "verdict": "failed"}, "value": 2},
        {"labels": {"check": "kl", "verdict": "passed"}, "value": 1},
        {"labels": {"check": "win_rate", "verdict": "passed"}, "value": 3},
    ]


def test_a_task_that_ends_well_is_dated_and_timed_once_a_task(
    registry: MemoryRegistry, status: Status, clock: Clock
) -> None:
    status.task("round", 5.0)
    status.task("export", 1.0)
    clock.now += 60
    status.task("round", 7.0)
    ended = metric(registry, "task_last_success_timestamp_seconds")
    assert [(row["labels"]["task"], row["value"]) for row in ended] == [("round", 1060.0), ("export", 1000.0)]
    spent = metric(registry, "task_duration_seconds")
    assert [(row["labels"]["task"], row["value"]) for row in spent] == [("round", 7.0), ("export", 1.0)]


def test_a_round_that_is_over_leaves_how_it_went_and_nothing_running(
    registry: MemoryRegistry, status: Status, clock: Clock
) -> None:
    registry.set_loop("heed", {"unfinished": "/batch"})
    assert status.begun() == 1
    status.step("gate", 0.5)
    clock.now += 42
    status.ended(1000.0, "b-1", {"adapter": "a-1", "verdict": "candidate", "reason": "all passed"})
    (last, history) = told(registry, "last_round", "history")
    assert last == {
        "started": 1000.0, "ended": 1042.0, "seconds": 42.0, "batch": "b-1",
        "adapter": "a-1", "verdict": "candidate", "reason": "all passed",
    }  # fmt: skip
    assert history == [last]
    idle = told(registry, "step", "progress", "eta_seconds", "unfinished", "starts")
    assert idle == (None, None, None, None, None)
    assert metric(registry, "task_duration_seconds") == [{"labels": {"task": "round"}, "value": 42.0}]


def test_a_round_that_failed_is_still_unfinished_and_says_when_it_is_tried_again(
    registry: MemoryRegistry, status: Status, clock: Clock
) -> None:
    registry.set_loop("heed", {"unfinished": "/batch"})
    assert [status.begun(), status.begun()] == [1, 2]
    status.failed(990.0, "b-1", {"adapter": None, "verdict": "failed", "reason": "disk full"}, 30.0)
    assert told(registry, "unfinished", "starts", "retry_at", "step") == ("/batch", 2, 1030.0, None)
    assert told(registry, "last_round")[0]["reason"] == "disk full"
    assert "metrics" not in registry.loop("heed")  # it did not end well
    status.begun()
    assert told(registry, "retry_at") == (None,)


def test_only_the_newest_rounds_are_remembered_the_newest_first(
    registry: MemoryRegistry, status: Status
) -> None:
    for number in range(HISTORY + 3):
        status.ended(0.0, f"b-{number}", {})
    batches = [round_["batch"] for round_ in told(registry, "history")[0]]
    assert batches == [f"b-{number}" for number in range(HISTORY + 2, 2, -1)]


def test_aliases_do_not_mix(registry: MemoryRegistry, status: Status) -> None:
    status.step("ppo", 0.0)
    Status(registry, "support").step("gate", 0.0)
    assert (registry.loop("heed")["step"], registry.loop("support")["step"]) == ("ppo", "gate")


def test_a_tasks_failure_stands_beside_its_last_success_until_it_ends_well_again(
    registry: MemoryRegistry, clock: Clock
) -> None:
    worked(registry, "archive", seconds=0.5)
    clock.now += 5
    broke(registry, "archive", OSError("disk full"))
    assert registry.loop(WORKERS)["archive"] == {
        "last_success": 1000.0, "seconds": 0.5, "last_failure": 1005.0, "why": "OSError: disk full",
    }  # fmt: skip
    clock.now += 5
    worked(registry, "archive")
    assert registry.loop(WORKERS)["archive"] == {"last_success": 1010.0}


def test_replies_sampled_again_after_a_kill_are_counted_once(
    registry: MemoryRegistry, status: Status
) -> None:
    run = {"reward_last": 0.0, "kl_nats": 0.0, "clip_fraction": 0.0, "entropy_nats": 0.0}
    totals = []
    for batch, samples in (
        ("b-1", 32), ("b-1", 64),  # killed here, taken up at its checkpoint after 32
        ("b-1", 48), ("b-1", 64), ("b-1", 80), ("b-1", 80),
        ("b-2", 16), ("b-2", 32),
    ):  # fmt: skip
        Status(registry, "heed").ppo(batch, {**run, "samples": samples})
        totals.append(metric(registry, "ppo_samples_total"))
    assert totals == [32, 64, 64, 64, 80, 80, 96, 112]


def test_the_curve_of_a_run_is_kept_and_goes_on_where_a_kill_threw_it_back(registry: MemoryRegistry) -> None:
    run = {"clip_fraction": 0.0, "entropy_nats": 0.0, "kl_nats": 1.0, "value_loss": 3.0}
    for batch, samples, reward in (("b-1", 32, 0.1), ("b-1", 64, 0.2), ("b-1", 96, 0.3), ("b-1", 64, 0.25)):
        Status(registry, "heed").ppo(batch, {**run, "samples": samples, "reward_last": reward})
    (kept,) = told(registry, "run")
    assert [(point["samples"], point["reward_last"]) for point in kept["curve"]] == [(32, 0.1), (64, 0.25)]
    assert (kept["batch"], kept["samples"], "value_loss" in kept["curve"][0]) == ("b-1", 96, False)
    Status(registry, "heed").ppo("b-2", {**run, "samples": 32, "reward_last": 0.5})
    assert [point["reward_last"] for point in told(registry, "run")[0]["curve"]] == [0.5]


def test_every_sign_of_work_is_heard_even_those_that_are_not_shown(
    registry: MemoryRegistry, clock: Clock
) -> None:
    heard: list[float] = []
    status = Status(registry, "heed", lambda: heard.append(clock.now))
    status.step("ppo", 0.0)
    clock.now += 0.1
    assert status.progress("ppo", 0.1, {}) is False
    clock.now += 1.0
    assert status.progress("ppo", 0.2, {}) is True
    assert heard == [1000.0, 1000.1, 1001.1]


def test_a_wish_to_end_holds_for_the_round_it_came_in_over_kills_and_for_no_other(
    registry: MemoryRegistry, status: Status, clock: Clock
) -> None:
    registry.set_loop("heed", {"cancel_requested": 999.0})  # came when the round before had just ended
    status.begun()
    assert not status.cancelled()
    clock.now += 5
    registry.set_loop("heed", {"cancel_requested": 990.0})  # by the clock of a gateway that is behind
    assert status.cancelled()
    clock.now += 5
    assert status.begun() == 2  # killed, and begun anew
    assert status.cancelled()
    status.ended(1000.0, "b-1", {})
    status.begun()
    assert not status.cancelled()


def test_starts_in_which_a_round_comes_further_are_not_counted_and_those_in_vain_are(
    registry: MemoryRegistry,
) -> None:
    run = {"reward_last": 0.0, "kl_nats": 0.0, "clip_fraction": 0.0, "entropy_nats": 0.0}
    starts = []
    for samples in (128, 256, 384, 384, 384, 512):  # the worker is killed after each of these
        status = Status(registry, "heed")
        starts.append(status.begun())
        status.ppo("b-1", {**run, "samples": samples})
    assert starts == [1, 2, 2, 2, 3, 4]
    assert Status(registry, "heed").starts() == 1
