"""The spool keeps what it took, whatever happens to the process, the disk or the store."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from feedback.appended import Appended
from feedback.errors import EventsRefused, SpoolFull, StoreUnavailable
from feedback.events import Event
from feedback.memory import MemoryEventLog
from feedback.spool import Spool
from tests.contract.making import response, vote
from tests.servers import ROOT

OVER_THE_LIMIT = """
import resource, signal, sys
from pathlib import Path
from feedback.errors import SpoolFull
from feedback.spool import Spool
from tests.contract.making import response

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, room = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
try:
    Spool(folder).append([response("r2")])
except SpoolFull:
    print("refused", (folder / "events.spool").stat().st_size)
"""


class AwayAfter(MemoryEventLog):
    """A log whose store goes away after some groups."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def append(self, events: Sequence[Event]) -> list[Appended]:
        if self.groups == 0:
            raise StoreUnavailable("away")
        self.groups -= 1
        return super().append(events)


class Refusing(MemoryEventLog):
    """A log that refuses some events, whatever else it takes."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = set(names)

    def append(self, events: Sequence[Event]) -> list[Appended]:
        taken = iter(super().append([event for event in events if event.event_id not in self.names]))
        answers = [None if event.event_id in self.names else next(taken) for event in events]
        if None in answers:
            raise EventsRefused("ERR", answers)
        return [one for one in answers if one is not None]


def logged(log: MemoryEventLog) -> list[str]:
    return [entry.event.event_id for entry in log.claim("w", 10_000)]


def drained(spool: Spool) -> list[str]:
    log = MemoryEventLog()
    spool.drain(log)
    return [entry.event.event_id for entry in log.claim("w", 10_000)]


def test_what_is_spooled_is_drained_in_order_and_then_gone(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    events = [response("r1"), vote("r1", "up", 2.0, comment="line\nbreak", alias="x"), response("r2")]
    answers = [spool.append([event])[0] for event in events]
    assert [answer.status for answer in answers] == ["new", "new", "new"]
    assert spool.pending() == 3
    log = MemoryEventLog()
    assert spool.drain(log) == 3
    assert [entry.event for entry in log.claim("w", 10)] == events
    assert spool.pending() == 0
    assert spool.drain(log) == 0


def test_another_process_after_a_crash_finds_what_was_spooled(tmp_path: Path) -> None:
    Spool(tmp_path).append([response("r1")])
    assert Spool(tmp_path).pending() == 1
    assert drained(Spool(tmp_path)) == ["r1"]


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_torn_tail_costs_only_the_event_that_was_being_written(tmp_path: Path, cut: int) -> None:
    spool = Spool(tmp_path)
    spool.append([response("r1"), response("r2")])
    path = tmp_path / "events.spool"
    path.write_bytes(path.read_bytes()[:-cut])
    spool.append([response("r3")])
    expected = ["r1", "r2", "r3"] if cut == 1 else ["r1", "r3"]
    assert drained(Spool(tmp_path)) == expected


def test_a_damaged_line_is_set_aside_and_the_others_are_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([response("r1"), response("r2"), response("r3")])
    path = tmp_path / "events.spool"
    path.write_bytes(path.read_bytes().replace(b"said r2", b"sa1d r2"))
    assert drained(spool) == ["r1", "r3"]
    assert b"sa1d r2" in (tmp_path / "damaged.spool").read_bytes()


def test_when_the_store_goes_away_midway_nothing_is_lost_and_nothing_is_counted_twice(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([response(f"r{n}") for n in range(1200)])
    log = AwayAfter(groups=1)
    with pytest.raises(StoreUnavailable):
        spool.drain(log)
    assert spool.pending() == 1200
    spool.append([response("r1200")])
    log.groups = 99
    gone = [entry.event.event_id for entry in log.claim("early", 5000)]
    assert 0 < len(gone) < 1200
    assert spool.drain(log) == 1201 - len(gone), "it goes on where it was"
    assert gone + [entry.event.event_id for entry in log.claim("w", 5000)] == [f"r{n}" for n in range(1201)]


def test_another_process_drains_from_the_start_what_one_left_midway_and_counts_nothing_twice(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path)
    spool.append([response(f"r{n}") for n in range(1200)])
    log = AwayAfter(groups=1)
    with pytest.raises(StoreUnavailable):
        spool.drain(log)
    log.groups = 99
    assert Spool(tmp_path).drain(log) == 1200
    assert [entry.event.event_id for entry in log.claim("w", 5000)] == [f"r{n}" for n in range(1200)]


def test_a_full_spool_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    size = (
        len(Spool(tmp_path / "one").append([response("r1")]))
        and (tmp_path / "one" / "events.spool").stat().st_size
    )
    spool = Spool(tmp_path / "two", max_bytes=2 * size + 10)
    spool.append([response("r1")])
    spool.append([response("r2")])
    with pytest.raises(SpoolFull, match="limit"):
        spool.append([response("r3")])
    assert drained(spool) == ["r1", "r2"]
    spool.append([response("r3")])
    assert spool.pending() == 1


def test_a_disk_that_refuses_leaves_no_part_of_the_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    spool.append([response("r1")])

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", refuse)
        with pytest.raises(SpoolFull, match="No space left"):
            spool.append([response("r2")])
    spool.append([response("r3")])
    assert drained(spool) == ["r1", "r3"]


def test_threads_and_draining_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    spools, log = [Spool(tmp_path) for _ in range(3)], MemoryEventLog()

    def write(n: int) -> None:
        for m in range(40):
            spools[n].append([response(f"r{n}-{m}")])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        spools[0].drain(log)
    spools[1].drain(log)
    assert len({entry.event.event_id for entry in log.claim("w", 1000)}) == 120


def test_a_forgotten_subject_is_dropped_from_every_line(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([response("r1", "s-gone"), response("r2", "s-stays"), response("r3", "s-gone", time=500.0)])
    (tmp_path / "damaged.spool").write_bytes(b"junk of s-gone\njunk of s-stays\n")
    assert spool.forget("s-gone", 200.0) == 2
    assert (tmp_path / "damaged.spool").read_bytes() == b"junk of s-stays\n"
    assert drained(spool) == ["r2", "r3"]


def test_a_damaged_line_is_set_aside_once_however_often_draining_begins(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([response(f"r{n}") for n in range(1200)])
    path = tmp_path / "events.spool"
    path.write_bytes(path.read_bytes().replace(b'said r2"', b'sa1d r2"'))
    for groups in (1, 0, 99):
        log = AwayAfter(groups)
        with suppress(StoreUnavailable):
            spool.drain(log)
    assert (tmp_path / "damaged.spool").read_bytes().count(b"sa1d r2") == 1


def test_who_finds_another_draining_does_not_wait(tmp_path: Path) -> None:
    spool, found = Spool(tmp_path), []

    class Curious(MemoryEventLog):
        def append(self, events: Sequence[Event]) -> list[Appended]:
            found.append(Spool(tmp_path).drain(self, wait=False))
            return super().append(events)

    spool.append([response("r1")])
    assert spool.drain(Curious()) == 1
    assert found == [None]


def test_the_count_of_what_waits_follows_every_change(tmp_path: Path) -> None:
    spool, other = Spool(tmp_path), Spool(tmp_path)
    assert (spool.pending(), spool.empty) == (0, True)
    for number in range(1, 4):
        other.append([response(f"r{number}")])
        assert (spool.pending(), spool.empty) == (number, False)
    spool.forget("s1", 1000.0)
    spool.append([response("r9", "s2")])
    assert spool.pending() == 1
    other.drain(MemoryEventLog())
    assert spool.pending() == 0
    other.append([response("r10")])
    assert spool.pending() == 1


def test_a_disk_on_which_nothing_can_be_opened_refuses_as_a_full_one(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for name in (".lock", ".drain"):
        (tmp_path / name).mkdir()
    with pytest.raises(SpoolFull):
        spool.append([response("r1")])
    with pytest.raises(SpoolFull):
        spool.drain(MemoryEventLog())


def test_a_disk_with_room_for_a_part_of_an_event_keeps_none_of_it(tmp_path: Path) -> None:
    """In a process of its own: the limit is the kernel's."""
    spool = Spool(tmp_path)
    spool.append([response("r1")])
    room = (tmp_path / "events.spool").stat().st_size + 100
    said = subprocess.run(
        [sys.executable, "-c", OVER_THE_LIMIT, str(tmp_path), str(room)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=180,
    )
    assert said.stdout.split() == ["refused", str(room - 100)], said.stderr
    spool.append([response("r3")])
    assert drained(spool) == ["r1", "r3"]


def test_an_event_that_is_refused_while_others_pass_is_set_aside_and_offered_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool, log = Spool(tmp_path), Refusing("r2")
    spool.append([response("r1"), response("r2"), response("r3")])
    assert spool.drain(log) == 2
    assert (spool.empty, spool.pending(), spool.refused()) == (True, 0, 1)
    assert logged(log) == ["r1", "r3"]
    assert "1 events are set aside" in caplog.text
    assert "said r2" not in caplog.text
    assert spool.offer_refused(log) == 0
    assert Spool(tmp_path).refused() == 1, "it is on the disk"
    log.names.clear()
    assert Spool(tmp_path).offer_refused(log) == 1
    assert logged(log) == ["r2"]
    assert (spool.refused(), spool.offer_refused(log)) == (0, 0)


def test_a_store_that_refuses_everything_takes_nothing_out_of_the_spool(tmp_path: Path) -> None:
    spool, log = Spool(tmp_path), Refusing("r1", "r2")
    spool.append([response("r1"), response("r2")])
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="refuses all"):
            spool.drain(log)
    assert (spool.pending(), spool.refused()) == (2, 0)
    log.names.clear()
    assert spool.drain(log) == 2
    assert logged(log) == ["r1", "r2"]


def test_what_the_log_had_before_does_not_prove_that_others_pass(tmp_path: Path) -> None:
    spool, log = Spool(tmp_path), Refusing("r2")
    log.append([response("r1")])
    spool.append([response("r1"), response("r2")])
    with pytest.raises(StoreUnavailable):
        spool.drain(log)
    spool.append([response("r3")])
    assert spool.drain(log) == 2, "r1 once more, and r3, which is new"
    assert (spool.refused(), spool.pending()) == (1, 0)
    assert logged(log) == ["r1", "r3"]


def test_beside_a_refused_event_a_damaged_line_is_set_aside_once(tmp_path: Path) -> None:
    spool, log = Spool(tmp_path), Refusing("r2")
    spool.append([response("r1"), response("r2")])
    path = tmp_path / "events.spool"
    path.write_bytes(path.read_bytes().replace(b"said r1", b"sa1d r1"))
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            spool.drain(log)
    spool.append([response("r3")])
    assert spool.drain(log) == 1
    assert (tmp_path / "damaged.spool").read_bytes().count(b"sa1d r1") == 1


def test_a_damaged_line_among_the_refused_goes_to_the_damaged_and_the_others_stay(tmp_path: Path) -> None:
    spool, log = Spool(tmp_path), Refusing("r1", "r2")
    spool.append([response(f"r{n}") for n in (1, 2, 3)])
    spool.drain(log)
    path = tmp_path / "refused.spool"
    path.write_bytes(path.read_bytes().replace(b"said r1", b"sa1d r1"))
    assert spool.offer_refused(log) == 0
    assert spool.refused() == 1
    assert b"sa1d r1" in (tmp_path / "damaged.spool").read_bytes()


def test_a_store_that_goes_away_while_refused_events_are_offered_leaves_them(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([response("r1"), response("r2")])
    spool.drain(Refusing("r1"))
    with pytest.raises(StoreUnavailable):
        spool.offer_refused(AwayAfter(groups=0))
    assert spool.refused() == 1


def test_a_forgotten_subject_is_dropped_from_what_was_refused(tmp_path: Path) -> None:
    spool, log = Spool(tmp_path), Refusing("r1", "r2")
    spool.append([response("r1", "s-gone"), response("r2", "s-stays"), response("r3")])
    spool.drain(log)
    assert spool.forget("s-gone", 200.0) == 1
    log.names.clear()
    assert spool.offer_refused(log) == 1
    assert logged(log) == ["r3", "r2"]
