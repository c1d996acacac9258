"""When a round is due, and what a tick of the schedule leaves behind."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from feedback.archive import Archive
from feedback.events import Response, Vote
from feedback.facts import mark_of
from feedback.forget import request
from feedback.held import HeldVote
from feedback.memory import MemoryEventLog, MemoryRegistry
from feedback.memory_rating import MemoryRatingQueue
from feedback.protocols import AliasRecord, Entry, EventLog, Registry
from feedback.rating import Item
from tests.contract.making import adapter, report, response, vote
from training import tasks
from training.batching import build
from training.settings import TrainingSettings
from training.tasks import wants_round

SETTINGS = TrainingSettings(
    round_min_votes=50, round_quiet_votes=20, round_quiet_seconds=8.0,
    round_pause_seconds=2.0, round_patience_seconds=30.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("state", "total", "due"),
    [
        ({"votes_changed": 98.0}, 49, False),
        ({"votes_changed": 98.0}, 50, True),
        ({"votes_changed": 98.5}, 50, False),  # more are coming
        ({"votes_changed": 99.0, "votes_enough": 70.5}, 500, False),
        ({"votes_changed": 99.0, "votes_enough": 70.0}, 500, True),  # they do not end
        ({"votes_changed": 98.0, "taken_votes": 50}, 99, False),
        ({"votes_changed": 98.0, "taken_votes": 50}, 100, True),
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


DAY = 86400.0


@pytest.fixture
def log(registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryEventLog:
    """The log of the workers, who keep events 10 days and texts 2."""
    made = MemoryEventLog()
    chosen = TrainingSettings(data_dir=tmp_path, retention_days=10, text_retention_days=2)
    monkeypatch.setattr(tasks, "parts", lambda: (registry, made))
    monkeypatch.setattr(tasks, "settings", lambda: chosen)
    monkeypatch.setattr(tasks, "rating_queue", MemoryRatingQueue)
    return made


def archived() -> dict[str, Response | Vote]:
    """By event id."""
    place = tasks.settings().archive_place
    return {entry.event.event_id: entry.event for entry in Archive(place).events()}  # type: ignore[misc]


def test_what_is_older_than_the_days_says_goes_and_texts_go_earlier(
    log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100 * DAY
    monkeypatch.setattr(tasks, "time", SimpleNamespace(time=lambda: now))
    ages = {"r11": 11.0, "r9": 9.0, "r3": 3.0, "r1": 1.0}
    log.append([response(name, time=now - age * DAY) for name, age in ages.items()])
    log.append(
        [report("rp-old", "r11", now - 11 * DAY), report("rp-mid", "r9", now - 3 * DAY, comment="private")]
    )
    tasks.archive()
    assert len(archived()) == 6
    tasks.retain()
    left = {name: event for name, event in archived().items() if isinstance(event, Response)}
    assert [(name, event.text) for name, event in left.items()] == [("r9", ""), ("r3", ""), ("r1", "said r1")]
    assert [(one.report_id, one.comment) for one in log.reports(open_only=False)] == [("rp-mid", None)]  # type: ignore[attr-defined]


def test_without_days_everything_stays(
    log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    forever = TrainingSettings(data_dir=tmp_path)
    monkeypatch.setattr(tasks, "settings", lambda: forever)
    log.append([response("r1", time=1.0)])
    tasks.archive()
    tasks.retain()
    assert list(archived()) == ["r1"]


def test_a_wish_is_carried_out_by_the_schedule(log: MemoryEventLog, registry: MemoryRegistry) -> None:
    now = time.time()
    log.append([response("r1", "s-goes", time=now - 1), response("r2", "s-stays", time=now - 1)])
    tasks.archive()
    log.append([vote("r1", "up", now - 1, "s-goes"), vote("r2", "up", now - 1, "s-stays")])
    receipt = request(registry, "s-goes")
    for _ in range(3):
        tasks.archive()
        tasks.forget()
    told = registry.receipt(receipt["id"])
    assert told["status"] == "done", told
    stores = {"annotations", "archive", "batches", "journal", "lineage", "log", "quarantine", "spool"}
    assert set(told["stores"]) == stores
    assert {event.subject for event in archived().values()} == {"s-stays"}


def test_a_wish_of_a_stranger_takes_nothing_from_a_round_that_runs(
    log: MemoryEventLog, registry: MemoryRegistry
) -> None:
    registry.put_alias(AliasRecord(name="heed"))
    now = time.time()
    log.append([response("r1", "s-stays", time=now), vote("r1", "up", now, "s-stays")])
    tasks.archive()
    settings = tasks.settings()
    batch = build(Archive(settings.archive_place), "heed", settings, None, votes_total=1)
    checkpoint = settings.checkpoints_dir / "heed" / batch.id
    checkpoint.mkdir(parents=True)
    registry.acquire("round:heed", "w", 60.0)
    request(registry, "s-stranger")
    tasks.forget()
    assert (batch.folder.exists(), checkpoint.exists()) == (True, True)


def test_what_a_round_writes_after_the_wish_goes_when_it_is_over(
    log: MemoryEventLog, registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = MemoryRatingQueue()
    monkeypatch.setattr(tasks, "rating_queue", lambda: queue)
    registry.put_alias(AliasRecord(name="heed"))
    registry.put_alias(AliasRecord(name="other"))
    now = time.time()
    log.append([response("r1", "s-goes", time=now), vote("r1", "up", now, "s-goes")])
    tasks.archive()
    settings = tasks.settings()
    build(Archive(settings.archive_place), "heed", settings, None, votes_total=1)
    registry.set_loop("heed", {"round_started": now})
    registry.acquire("round:heed", "w", 60.0)
    receipt = request(registry, "s-goes")
    tasks.forget()
    one = Item("i1", ({"role": "user", "content": "asked r1"},), (), 1.0, "s-goes")
    queue.fill("heed", [one], 1)  # what the round had read before, it writes now
    found = {
        "event_id": "ev-9",
        "alias": "heed",
        "burst": "qb-1",
        "kind": "rate",
        "reason": "w",
        "subject": "s-goes",
    }
    registry.hold("heed", [HeldVote(**found, time=now, found=now)])
    tasks.forget()
    told = registry.receipt(receipt["id"])
    others = ("batches", "annotations", "quarantine", "lineage")
    assert [told["stores"].get(name) for name in others] == [None] * 4
    assert told["stores"]["archive"]
    registry.release("round:heed", "w")
    registry.set_loop(
        "other", {"round_started": now + 3600}
    )  # begun when the archive was clean: it holds nothing
    registry.acquire("round:other", "w", 60.0)
    for _ in range(2):
        tasks.archive()
        tasks.forget()
    assert registry.receipt(receipt["id"])["status"] == "done"
    assert queue.take("heed", "rater", 1, 60.0) is None
    assert registry.quarantined() == []
    assert not [path for path in settings.lineage_dir.iterdir() if mark_of("s-goes") in path.read_text()]


def test_the_indexes_keep_no_text_longer_than_the_days_say() -> None:
    assert TrainingSettings().indexed_seconds == 30 * DAY
    assert TrainingSettings(retention_days=400, text_retention_days=7).indexed_seconds == 7 * DAY
    assert TrainingSettings(retention_days=3).kept_from(10 * DAY) == (7 * DAY, 7 * DAY)
    assert TrainingSettings(text_retention_days=3).kept_from(10 * DAY) == (0.0, 7 * DAY)
    assert TrainingSettings().kept_from(10 * DAY) == (0.0, 0.0)


def test_the_fault_of_one_alias_holds_up_no_other(
    log: MemoryEventLog, registry: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.put_alias(
        AliasRecord(name="a-broken", thresholds={"gate_prompts": 1})
    )  # of before a bound was set
    registry.put_alias(AliasRecord(name="b-sound"))
    registry.set_loop("b-sound", {"train_requested": time.time()})
    registry.add_adapter(adapter(alias="b-sound", gate={"passed": True}))
    registry.report_engine("engine-0", [adapter().id], 60)
    asked: list[list[str]] = []
    monkeypatch.setattr(tasks.train, "apply_async", lambda args, **_: asked.append(args))
    for run in (tasks.consider, tasks.review):
        with pytest.raises(ValidationError, match="gate_prompts"):
            run()
    assert asked == [["b-sound"]]
    assert registry.adapter(adapter().id).state == "canary"
    assert "gate_prompts" in registry.loop("_workers")["consider"]["why"]


def test_archiving_comes_to_an_end_and_trims_however_fast_events_come(
    log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "CLAIM", 10)
    claimed: list[int] = []
    plain = log.claim

    def claim(consumer: str, count: int, idle_seconds: float = 60.0) -> list[Entry]:
        found = plain(consumer, count, idle_seconds)
        claimed.append(len(found))
        assert len(claimed) < 50, "it goes on for ever, and no other task has its turn"
        log.append([response(f"r{len(claimed)}-{n}", time=1.0) for n in range(3)])  # meanwhile
        return found

    log.append([response(f"r{n}", time=1.0) for n in range(25)])
    monkeypatch.setattr(log, "claim", claim)
    tasks.archive()
    assert claimed[:2] == [10, 10]
    assert 25 <= sum(claimed) == len(archived())
    assert log.backlog().events < 10  # and what was archived is not in the stream any more
    assert log.trim() == 0


def test_archiving_leaves_the_rest_to_the_next_tick_when_its_time_is_over(
    log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "CLAIM", 10)
    monkeypatch.setattr(tasks, "ARCHIVE_SECONDS", 0.0)
    log.append([response(f"r{n}", time=1.0) for n in range(25)])
    left = []
    for _ in range(3):
        tasks.archive()
        left.append(log.backlog().events)
    assert left == [15, 5, 0]
