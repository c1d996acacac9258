"""When a round is due, and what a tick of the schedule leaves behind."""

from __future__ import annotations

import os
from typing import Any

import pytest

from feedback.memory import MemoryEventLog, MemoryRegistry
from feedback.protocols import EventLog, Registry
from training import tasks
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


def test_a_round_that_failed_rests_whatever_else_speaks_for_it() -> None:
    state = {"unfinished": "/some/batch", "retry_at": 101.0, "last_round": {"ended": 96.0}}
    assert wants_round(state, 500, 100.0, SETTINGS) is False
    assert wants_round(state, 500, 101.0, SETTINGS) is True


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> MemoryRegistry:
    made = MemoryRegistry()
    monkeypatch.setattr(tasks, "parts", lambda: (made, MemoryEventLog()))
    return made


def test_a_tick_that_fails_lets_go_of_its_lease_and_tells_why(registry: MemoryRegistry) -> None:
    failing = True

    def work(_registry: Registry, _log: EventLog) -> None:
        if failing:
            raise OSError(28, "No space left on device")

    run = tasks.tick(work)
    with pytest.raises(OSError, match="No space left"):
        run()
    told = registry.loop("_workers")["work"]
    assert told["why"] == "OSError: [Errno 28] No space left on device"
    assert "last_success" not in told
    assert registry.acquire("tick:work", "another", 1.0) is not None
    registry.release("tick:work", "another")
    failing = False
    run()
    assert registry.loop("_workers")["work"].keys() == {"last_success", "seconds"}


def test_a_tick_that_another_worker_is_at_does_nothing(registry: MemoryRegistry) -> None:
    done: list[int] = []
    registry.acquire("tick:work", "another", 60.0)

    def work(_registry: Registry, _log: EventLog) -> None:
        done.append(1)

    tasks.tick(work)()
    assert done == []


def test_each_process_holds_leases_in_a_name_of_its_own() -> None:
    names = [tasks.holder()]
    reader, writer = os.pipe()
    if os.fork() == 0:  # as Celery's pool does after importing the tasks
        os.write(writer, tasks.holder().encode())
        os._exit(0)
    os.wait()
    names.append(os.read(reader, 200).decode())
    assert names[0] != names[1]
    assert tasks.holder() == names[0]


def test_the_training_worker_reports_that_it_takes_tasks(registry: MemoryRegistry) -> None:
    assert tasks.app.conf.task_routes["heed.attend"] == {"queue": "training"}
    assert "attend" in tasks.app.conf.beat_schedule
    tasks.attend()
    assert registry.loop("_workers")["training"]["last_success"] > 0
