"""A server that is frozen, full, read-only, out of disk or started anew without its data: what was acknowledged
stays, what was not can be said again, and nothing is logged twice.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from feedback import keys
from feedback.errors import EventsRefused, StoreUnavailable
from feedback.events import Event, Vote
from feedback.log import RedisEventLog
from feedback.spool import Spool
from feedback.store import connect, refusal
from tests.contract.making import in_arm, report, response, vote
from tests.servers import valkey_server, wait_until


@contextmanager
def frozen(server: subprocess.Popen[bytes]) -> Iterator[None]:
    """The process gets no turn; its sockets stay open."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def logged(url: str) -> list[str]:
    """All event ids in the stream."""
    return [entry.event.event_id for entry in RedisEventLog(connect(url)).claim("w", 10_000, 0.0)]


def fill(log: RedisEventLog, acknowledged: list[str]) -> None:
    """Append one by one; ``acknowledged`` grows with each."""
    for n in range(1000):
        acknowledged += [one.event_id for one in log.append([response(f"r{n}")])]


def test_a_frozen_server_is_unavailable_and_what_it_was_sent_is_logged_once_after_all(
    tmp_path: Path,
) -> None:
    voted = vote("r1", "up", 2.0)
    said: list[Event] = [response("r1"), voted]
    with valkey_server(tmp_path) as (url, server):
        log = RedisEventLog(connect(url, timeout_seconds=4.0))
        log.append([response("r0")])
        with frozen(server):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="Timeout"):
                log.append(said)  # it lies in the socket, and is done when the server wakes
            waited = time.monotonic() - began
        assert 4.0 <= waited < 4.0 * 2, "a silent server is asked once"
        wait_until(lambda: connect(url).xlen(keys.EVENTS) == 3, 60, "what lay in the socket")
        assert [one.status for one in log.append(said)] == ["repeat", "repeat"]
        assert logged(url) == ["r0", "r1", voted.event_id]
        assert log.votes_total("heed") == 1


def test_a_primary_that_became_a_replica_refuses_and_is_left_for_the_next_primary(tmp_path: Path) -> None:
    with valkey_server(tmp_path / "one") as (url, _), valkey_server(tmp_path / "two") as (other, _):
        client, admin = connect(url), connect(url)
        log = RedisEventLog(client)
        log.append([response("r1")])
        before = client.client_id()
        place = urlsplit(other)
        admin.replicaof(place.hostname, place.port)
        with pytest.raises(StoreUnavailable, match="ReadOnlyError"):
            log.append([vote("r1", "up", 2.0)])
        admin.replicaof("NO", "ONE")
        assert client.client_id() != before, "the address is looked up anew"
        assert [one.status for one in log.append([vote("r1", "up", 2.0)])] == ["new"]


def test_a_server_that_cannot_save_refuses_and_takes_votes_again_when_it_can(tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").mkdir()  # nobody can rename a file over it, not even root
    with valkey_server(tmp_path) as (url, _):
        client = connect(url)
        log = RedisEventLog(client)
        log.append([response("r1")])
        client.config_set("save", "3600 1")
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", 60, "the failure")
        with pytest.raises(StoreUnavailable, match="MISCONF"):
            log.append([vote("r1", "up", 2.0)])
        assert log.latest("r1", "s1") is None
        (tmp_path / "dump.rdb").rmdir()
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "ok", 60, "a dump")
        assert [one.status for one in log.append([vote("r1", "up", 2.0)])] == ["new"]


def test_a_server_whose_disk_is_full_ends_and_has_all_it_acknowledged_when_there_is_room(
    tmp_path: Path,
) -> None:
    acknowledged: list[str] = []
    with valkey_server(tmp_path) as (url, server):
        log = RedisEventLog(connect(url))
        log.append([response("warm")])
        journal = next((tmp_path / "appendonlydir").glob("*.incr.aof"))
        room = journal.stat().st_size + 50_001  # ends in the middle of a record
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (room, room))
        with pytest.raises(StoreUnavailable):
            fill(log, acknowledged)
        server.wait(120)
    with valkey_server(tmp_path) as (url, _):
        found = logged(url)
        assert 10 < len(acknowledged) < 1000
        assert found[1 : len(acknowledged) + 1] == acknowledged
        assert len(found) == len(set(found))
        again = RedisEventLog(connect(url)).append([response(found[-1]), response("next")])
        assert [one.status for one in again] == ["repeat", "new"]


def test_a_server_that_comes_back_empty_is_written_claimed_and_trimmed_as_if_it_were_new(
    tmp_path: Path,
) -> None:
    with valkey_server(tmp_path / "old") as (url, _):
        log = RedisEventLog(connect(url))
        log.append([in_arm("r1", "control", "s1"), vote("r1", "up", 2.0)])
        held = log.claim("w", 1)
    port = urlsplit(url).port
    with valkey_server(tmp_path / "new", port):
        log.ack([entry.position for entry in held])
        assert log.trim() == 0
        assert (log.backlog().events, log.votes_total("heed")) == (0, 0)
        late = vote("r1", "down", 3.0)  # its response is not known any more
        assert [one.status for one in log.append([late])] == ["new"]
        assert [entry.event for entry in log.claim("w", 9)] == [late]
        log.ack([entry.position for entry in log.claim("w", 9, 0.0)])
        assert (log.trim(), log.backlog().events) == (1, 0)


def test_what_the_script_cannot_read_of_one_event_does_not_hold_up_its_group(
    store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(log: RedisEventLog, event: Event) -> tuple[str, str, bytes, bytes]:
        kind, event_id, body, facts = whole(log, event)
        return kind, event_id, body, facts[:-1] if event_id == "r2" else facts

    whole = RedisEventLog._told
    monkeypatch.setattr(RedisEventLog, "_told", told)
    with pytest.raises(EventsRefused) as refused:
        RedisEventLog(store).append([response(name) for name in ("r1", "r2", "r3")])
    assert [one and one.status for one in refused.value.appended] == ["new", None, "new"]


def test_a_server_that_is_loading_is_unavailable(store: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    def loading(*_: object, **__: object) -> None:
        raise redis.exceptions.BusyLoadingError("LOADING the dataset in memory")

    monkeypatch.setattr(redis.client.Pipeline, "execute", loading)
    with pytest.raises(StoreUnavailable, match="BusyLoading"):
        RedisEventLog(store).append([response("r1")])


def waits(client: redis.Redis) -> int:
    """How often the server was asked to wait for its disk."""
    return int(client.info("commandstats").get("cmdstat_waitaof", {}).get("calls", 0))


@pytest.mark.parametrize(
    ("appendfsync", "asked"), [("always", 0), ("everysec", 1)], ids=["always", "everysec"]
)
def test_a_server_that_answers_before_its_disk_has_it_is_waited_for(
    store: redis.Redis, appendfsync: str, asked: int
) -> None:
    before = waits(store)
    store.config_set("appendfsync", appendfsync)
    try:
        log = RedisEventLog(store)
        assert [one.status for one in log.append([response("r1"), vote("r1", "up", 2.0)])] == ["new", "new"]
    finally:
        store.config_set("appendfsync", "always")
    assert waits(store) - before == asked
    assert store.xlen(keys.EVENTS) == 2


def test_a_disk_that_does_not_confirm_is_an_unavailable_store(
    store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unconfirmed(pipe: redis.client.Pipeline, **how: Any) -> list[Any]:
        *replies, _ = execute(pipe, **how)
        return [*replies, [0, 0]]  # WAITAOF's answer when its time is up

    execute = redis.client.Pipeline.execute
    store.config_set("appendfsync", "everysec")
    try:
        with monkeypatch.context() as patch:
            patch.setattr(redis.client.Pipeline, "execute", unconfirmed)
            with pytest.raises(StoreUnavailable, match="did not confirm"):
                RedisEventLog(store).append([response("r1")])
    finally:
        store.config_set("appendfsync", "always")
    assert [one.status for one in RedisEventLog(store).append([response("r1")])] == ["repeat"]


def test_a_server_without_a_journal_is_told_of_once_and_taken_as_it_is(
    store: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    store.config_set("appendonly", "no")
    try:
        log = RedisEventLog(store)
        for number in range(2):
            assert [one.status for one in log.append([response(f"r{number}")])] == ["new"]
    finally:
        store.config_set("appendonly", "yes")
    assert [record.message for record in caplog.records] == [
        "the store does not promise that votes are on its disk: appendonly or appendfsync is no"
    ]


def names(log: RedisEventLog) -> list[str]:
    """What can be claimed now, by event id."""
    return [entry.event.event_id for entry in log.claim("w", 10_000)]


def test_an_event_that_the_server_always_refuses_holds_up_no_other_and_counts_once_when_it_is_mended(
    store: redis.Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log, spool = RedisEventLog(store), Spool(tmp_path)
    one = vote("r1", "up", 2.0, comment="my words", alias="heed")
    other = vote("r2", "down", 3.0)
    spoilt = keys.voice(one.feedback_id)
    store.set(spoilt, "of another type")
    with pytest.raises(EventsRefused, match=r"refused 1 of 3 events: [A-Z]+$") as refused:
        log.append([response("r1"), one, response("r2")])
    assert [told and told.status for told in refused.value.appended] == ["new", None, "new"]
    spool.append([response("r1"), one, other])
    assert spool.drain(log) == 2
    assert (spool.empty, spool.refused()) == (True, 1)
    assert "my words" not in caplog.text
    assert names(log) == ["r1", "r2", other.event_id]
    assert spool.offer_refused(log) == 0
    store.delete(spoilt)
    assert spool.offer_refused(log) == 1
    assert (names(log), spool.refused()) == ([one.event_id], 0)
    assert log.latest("r1", "s1") == one
    assert log.votes_total("heed") == 2


def test_a_server_that_refuses_every_event_is_waited_for(store: redis.Redis, tmp_path: Path) -> None:
    log, spool = RedisEventLog(store), Spool(tmp_path)
    store.set(keys.EVENTS, "of another type")
    said = [response("r1"), vote("r1", "up", 2.0), report("rp-1", "r1"), response("r2")]
    spool.append(said)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="refuses all"):
            spool.drain(log)
    assert (spool.pending(), spool.refused()) == (4, 0)
    store.delete(keys.EVENTS)
    assert spool.drain(log) == 4
    assert names(log) == [event.event_id for event in said]
    assert log.votes_total("heed") == 1


def test_a_vote_whose_count_the_server_refuses_is_in_the_log_all_the_same(store: redis.Redis) -> None:
    """A script that breaks off leaves what it has done: never a vote that is known and that nobody reads."""
    log = RedisEventLog(store)
    log.append([in_arm("r1", "control", "s1")])
    counts = store.dump(keys.counts("exp"))
    store.set(keys.counts("exp"), "of another type")
    said = vote("r1", "up", 2.0)
    with pytest.raises(EventsRefused):
        log.append([said])
    store.delete(keys.counts("exp"))
    store.restore(keys.counts("exp"), 0, counts)
    log.append([said])
    voted = [entry.event for entry in log.claim("w", 10) if isinstance(entry.event, Vote)]
    assert {event.event_id for event in voted} == {said.event_id}


@pytest.mark.parametrize("said", ["MISCONF cannot save", "BUSY runs a script", "NOREPLICAS not enough"])
def test_an_error_that_is_of_the_server_and_passes_is_of_no_event(said: str) -> None:
    assert refusal(redis.ResponseError(said)) is None
    assert refusal(redis.OutOfMemoryError("command not allowed")) is None
    assert refusal(redis.ResponseError("WRONGTYPE Operation against a key")) == "WRONGTYPE"
    assert refusal(redis.ResponseError("words of somebody")) == "ERR"
