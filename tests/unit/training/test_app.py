"""The Celery application: which queue, how often, and nothing heavy until a round begins."""

from __future__ import annotations

import subprocess
import sys

import pytest

from training.app import ATTEND_SECONDS, make
from training.settings import TrainingSettings

APP = make(TrainingSettings(broker_url="redis://broker:1/2", tick_seconds=3.0))
TICKS = {
    "archive": 3.0,
    "consider": 3.0,
    "review": 3.0,
    "attend": ATTEND_SECONDS,
    "forget": 6.0,
    "canaries": 90.0,
    "compact": 900.0,
    "retain": 900.0,
}


def test_the_schedule_ticks_as_asked_and_a_tick_that_waited_past_the_next_is_dropped() -> None:
    schedule = APP.conf.beat_schedule
    assert {name: entry["schedule"] for name, entry in schedule.items()} == TICKS
    assert {name: entry["options"]["expires"] for name, entry in schedule.items()} == TICKS


def test_every_task_of_the_schedule_is_there_and_its_worker_does_not_keep_results() -> None:
    from training import tasks

    known = {name for name in tasks.app.tasks if name.startswith("heed.")}
    assert known == {f"heed.{name}" for name in TICKS} | {"heed.round"}
    assert all(tasks.app.tasks[name].ignore_result for name in known)


@pytest.mark.parametrize(
    ("task", "queue"),
    [
        ("round", "training"), ("attend", "training"), ("canaries", "training"), ("archive", "control"),
        ("consider", "control"), ("review", "control"), ("forget", "control"), ("compact", "control"),
        ("retain", "control"),
    ],
)  # fmt: skip
def test_long_work_has_a_queue_of_its_own(task: str, queue: str) -> None:
    assert APP.amqp.router.route({}, f"heed.{task}")["queue"].name == queue


def test_messages_are_json_go_through_the_broker_and_are_acknowledged_after_the_work() -> None:
    conf = APP.conf
    assert conf.broker_url == "redis://broker:1/2"
    assert (conf.task_serializer, conf.accept_content) == ("json", ["json"])
    assert conf.task_acks_late
    assert conf.worker_prefetch_multiplier == 1


def test_a_worker_of_the_control_queue_never_loads_torch() -> None:
    heavy = {"torch", "transformers", "peft", "vllm"}
    code = f"import sys, training.tasks; print(*{heavy} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
