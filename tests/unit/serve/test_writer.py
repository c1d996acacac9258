"""Events are written in groups, kept while the log is away, and never lost without being counted."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from feedback.errors import EventsRefused, SpoolFull, StoreUnavailable
from feedback.events import Event, Response, Vote
from feedback.memory import MemoryEventLog
from feedback.spool import Spool
from serve.errors import Unavailable
from serve.metrics import Metrics
from serve.writer import Writer


class Flaky(MemoryEventLog):
    """A log that can go away."""

    away = False
    groups: list[int]

    def append(self, events: Any) -> Any:
        if self.away:
            raise StoreUnavailable("away")
        self.groups = [*getattr(self, "groups", []), len(events)]
        return super().append(events)


def vote(number: int) -> Vote:
    return Vote(
        event_id=f"ev-{number:04d}",
        feedback_id=f"fb-{number}",
        response_id=f"chatcmpl-{number}",
        time=float(number),
        subject="s-1",
        rating="up",
    )


def response(number: int) -> Response:
    name = f"chatcmpl-{number}"
    return Response(
        event_id=name, response_id=name, time=1.0, alias="heed", adapter="base", arm="live", subject="s-1"
    )


@contextmanager
def writing(
    log: Flaky, folder: Path, *, places: int = 100, limit: int = 10**6, start: bool = True
) -> Iterator[tuple[Writer, Metrics]]:
    metrics = Metrics()
    writer = Writer(log, Spool(folder, limit), metrics, places=places, retry_seconds=0.05)
    if start:
        writer.start()
    yield writer, metrics
    if start:
        writer.close()


def logged(log: Flaky) -> list[str]:
    return [entry.event.event_id for entry in log.claim("test", 1000)]


def wait(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_a_vote_is_confirmed_once_it_is_in_the_log(tmp_path: Path) -> None:
    log = Flaky()
    with writing(log, tmp_path) as (writer, _):
        assert (await writer.write(vote(1))).status == "stored"
        assert logged(log) == ["ev-0001"]
        assert (await writer.write(vote(1))).appended.status == "repeat"


def test_what_waits_is_written_in_one_group_and_before_the_end(tmp_path: Path) -> None:
    log = Flaky()
    with writing(log, tmp_path, start=False) as (writer, _):
        for number in range(5):
            writer.forget(lambda number=number: response(number))
        writer.start()
        writer.close()
    assert log.groups == [5]


async def test_while_the_log_is_away_votes_are_spooled_and_later_drained_in_order(tmp_path: Path) -> None:
    log = Flaky()
    with writing(log, tmp_path) as (writer, _):
        log.away = True
        assert (await writer.write(vote(1))).status == "spooled"
        assert (await writer.write(vote(2))).status == "spooled"
        log.away = False
        wait(lambda: not writer.away)
        assert Spool(tmp_path).pending() == 0
        assert (await writer.write(vote(3))).status == "stored"
        assert logged(log) == ["ev-0001", "ev-0002", "ev-0003"]


async def test_what_was_spooled_before_a_restart_goes_first(tmp_path: Path) -> None:
    Spool(tmp_path).append([vote(1)])
    log = Flaky()
    with writing(log, tmp_path) as (writer, _):
        await writer.write(vote(2))
        wait(lambda: not writer.away)
        assert logged(log) == ["ev-0001", "ev-0002"]


async def test_a_full_spool_refuses_votes_and_counts_dropped_responses(tmp_path: Path) -> None:
    log = Flaky()
    log.away = True
    with writing(log, tmp_path, limit=10) as (writer, metrics):
        with pytest.raises(SpoolFull):
            await writer.write(vote(1))
        writer.forget(lambda: response(1))
        dropped = {"why": "spool_full"}
        wait(lambda: metrics.registry.get_sample_value("heed_events_dropped_total", dropped) == 1)


async def test_a_full_queue_refuses_votes_and_drops_responses(tmp_path: Path) -> None:
    with writing(Flaky(), tmp_path, places=1, start=False) as (writer, metrics):
        writer.forget(lambda: response(1))
        writer.forget(lambda: response(2))
        with pytest.raises(Unavailable):
            await writer.write(vote(1))
        dropped = {"why": "queue_full"}
        assert metrics.registry.get_sample_value("heed_events_dropped_total", dropped) == 1


async def test_a_fault_in_one_event_does_not_end_the_thread(tmp_path: Path) -> None:
    def faulty() -> Event:
        raise RuntimeError("a fault of ours")

    log = Flaky()
    with writing(log, tmp_path) as (writer, _):
        writer.forget(faulty)
        wait(writer._queue.empty)
        assert (await writer.write(vote(1))).status == "stored"


async def test_votes_wait_for_no_log_that_is_known_to_be_away(tmp_path: Path) -> None:
    asked, answer = threading.Event(), threading.Event()

    class Silent(Flaky):
        def ping(self) -> None:
            asked.set()
            answer.wait(30)

    log = Silent()
    with writing(log, tmp_path) as (writer, _):
        log.away = True
        assert (await writer.write(vote(1))).status == "spooled"
        assert await asyncio.to_thread(asked.wait, 10)  # the log is asked, and does not answer
        assert (await writer.write(vote(2))).status == "spooled"
        log.away = False
        answer.set()
        wait(lambda: not writer.away)
        assert logged(log) == ["ev-0001", "ev-0002"]


async def test_what_another_process_left_in_the_spool_is_brought_to_the_log(tmp_path: Path) -> None:
    log = Flaky()
    with writing(log, tmp_path) as (writer, _):
        await writer.write(vote(1))
        Spool(tmp_path).append([vote(2)])
        wait(lambda: Spool(tmp_path).empty)
        await writer.write(vote(3))
        assert logged(log) == ["ev-0001", "ev-0002", "ev-0003"]


async def test_responses_leave_room_in_the_spool_for_votes(tmp_path: Path) -> None:
    log = Flaky()
    log.away = True
    with writing(log, tmp_path, limit=4000) as (writer, metrics):
        for number in range(40):
            writer.forget(lambda number=number: response(number))  # type: ignore[misc]
        assert (await writer.write(vote(1))).status == "spooled"
        dropped = metrics.registry.get_sample_value("heed_events_dropped_total", {"why": "spool_full"})
        assert 0 < (dropped or 0) < 41
        assert Spool(tmp_path).pending() == 41 - (dropped or 0)


async def test_a_client_that_left_spoils_nothing_for_the_others_of_its_group(tmp_path: Path) -> None:
    with writing(Flaky(), tmp_path, start=False) as (writer, _):
        gone = asyncio.create_task(writer.write(vote(1)))
        stays = asyncio.create_task(writer.write(vote(2)))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        writer.start()
        assert (await stays).status == "stored"
        writer.close()


async def test_a_spool_that_cannot_be_drained_keeps_no_vote_from_a_log_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spool(tmp_path).append([vote(1)])

    def refuse(*_: object, **__: object) -> None:
        raise SpoolFull("the disk refused to drain the spool")

    log = Flaky()
    monkeypatch.setattr(Spool, "drain", refuse)
    with writing(log, tmp_path) as (writer, _):
        wait(lambda: not writer.away)
        assert (await writer.write(vote(2))).status == "stored"
        monkeypatch.undo()
        wait(lambda: Spool(tmp_path).empty)
        assert logged(log) == ["ev-0002", "ev-0001"]


async def test_an_event_that_the_log_refuses_is_counted_and_holds_up_no_other(tmp_path: Path) -> None:
    class Refusing(Flaky):
        refuses = "ev-0001"

        def append(self, events: Any) -> Any:
            taken = {
                one.event_id: one for one in super().append([e for e in events if e.event_id != self.refuses])
            }
            if len(taken) < len(events):
                raise EventsRefused("ERR", [taken.get(event.event_id) for event in events])
            return list(taken.values())

    log = Refusing()
    with writing(log, tmp_path) as (writer, metrics):
        assert (await writer.write(vote(1))).status == "spooled"
        assert (await writer.write(vote(2))).status in {"stored", "spooled"}
        wait(lambda: metrics.set_aside() == 1)
        wait(lambda: not writer.away)
        assert (await writer.write(vote(3))).status == "stored"
        assert logged(log) == ["ev-0002", "ev-0003"]
    log.refuses = ""
    with writing(log, tmp_path) as (writer, metrics):  # a gateway that starts anew offers it again
        wait(lambda: logged(log) == ["ev-0001"])
        wait(lambda: metrics.set_aside() == 0)


async def test_of_a_group_only_what_is_refused_waits(tmp_path: Path) -> None:
    class Refusing(Flaky):
        def append(self, events: Any) -> Any:
            answers = [one if one.event_id != "ev-0002" else None for one in super().append(events)]
            if None in answers:
                raise EventsRefused("ERR", answers)
            return answers

    with writing(Refusing(), tmp_path, start=False) as (writer, _):
        waiting = [asyncio.create_task(writer.write(vote(number))) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        writer.start()
        assert [(await one).status for one in waiting] == ["stored", "spooled", "stored"]
        writer.close()
