"""What only the real server can show: durability, failures, its keys."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from feedback import keys
from feedback.changes import changes
from feedback.errors import LeaseLost, StoreUnavailable
from feedback.log import RedisEventLog
from feedback.protocols import AliasRecord
from feedback.quotas import RedisQuotas
from feedback.registry import RedisRegistry
from feedback.store import Durability, connect, durability
from tests.contract.making import adapter, comparison, experiment, in_arm, label, report, response, vote
from tests.servers import free_port, valkey_server


def test_what_was_acknowledged_survives_a_kill_of_the_server(tmp_path: Path) -> None:
    with valkey_server(tmp_path) as (url, child):
        log = RedisEventLog(connect(url))
        acknowledged = log.append(
            [in_arm("r1", "control", "s1"), *(vote("r1", r, t) for r, t in [("up", 2.0), ("down", 3.0)])]
        )  # type: ignore[arg-type]
        for n in range(200):
            acknowledged += log.append([response(f"x{n}", f"s{n}")])
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    with valkey_server(tmp_path) as (url, _):
        log = RedisEventLog(connect(url))
        found = [entry.event.event_id for entry in log.claim("w", 1000)]
        assert found == [appended.event_id for appended in acknowledged]
        assert log.counts("exp")["control"].down == 1
        assert log.append([response("x7", "s7")])[0].status == "repeat"


def test_a_server_killed_in_the_middle_of_writing_keeps_all_it_had_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    enough = threading.Event()

    def write(url: str) -> None:
        log = RedisEventLog(connect(url, timeout_seconds=60.0))
        for n in itertools.count():
            try:
                acknowledged.extend(
                    one.event_id for one in log.append([response(f"r{n}-{m}") for m in range(3)])
                )
            except StoreUnavailable:
                return
            if n == 100:
                enough.set()

    with valkey_server(tmp_path) as (url, child):
        writer = threading.Thread(target=write, args=(url,))
        writer.start()
        assert enough.wait(120)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        writer.join(120)
    with valkey_server(tmp_path) as (url, _):
        found = [entry.event.event_id for entry in RedisEventLog(connect(url)).claim("w", 10**6)]
    assert len(found) == len(set(found))
    assert found[: len(acknowledged)] == acknowledged


def test_of_gateways_that_log_the_same_vote_at_once_one_is_told_it_is_new(
    store: redis.Redis, valkey_url: str
) -> None:
    said = vote("r1", "up", 2.0)
    answers: list[str] = []
    start = threading.Barrier(6)

    def write() -> None:
        log = RedisEventLog(connect(valkey_url))
        start.wait()
        answers.append(log.append([said])[0].status)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["new", *["repeat"] * 5]
    assert store.xlen(keys.EVENTS) == 1


def test_a_server_that_is_away_is_said_to_be_unavailable() -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0", timeout_seconds=0.2)
    log, registry = RedisEventLog(client), RedisRegistry(client)
    calls = [
        log.ping,
        lambda: log.append([response("r1")]),
        lambda: log.claim("w", 1),
        lambda: log.ack(["1-0"]),
        log.trim,
        log.backlog,
        lambda: log.votes_total("heed"),
        lambda: log.response("r1"),
        lambda: log.latest("r1", "s1"),
        lambda: log.history("r1", "s1"),
        lambda: log.responses_of("s1"),
        lambda: log.counts("exp"),
        log.reports,
        lambda: log.forget("s1", 1.0),
        lambda: log.passed("1-0"),
        lambda: log.forgotten(["s1"]),
        lambda: log.unarchived("s1"),
        lambda: log.gone("1-0"),
        log.rewrite,
        log.rewritten,
        lambda: log.discard(1.0, 1.0),
        log.durability,
        lambda: RedisQuotas(client).settle("g", 0, []),
        registry.generation,
        registry.next_sequence,
        registry.adapters,
        lambda: registry.adapter("a"),
        lambda: registry.add_adapter(adapter()),
        lambda: registry.promote("heed", "a", ""),
        registry.engines,
        lambda: registry.report_engine("e", [], 1),
        lambda: registry.loop("heed"),
        lambda: registry.set_loop("heed", {"a": 1}),
        lambda: registry.acquire("l", "h", 1),
        lambda: registry.check("l", 1),
        lambda: registry.release("l", "h"),
        registry.receipts,
        lambda: registry.put_receipt({"id": "x"}),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable):
            call()  # type: ignore[operator]


def test_a_full_server_refuses_a_vote_whole_and_reading_goes_on(store: redis.Redis) -> None:
    log = RedisEventLog(store)
    log.append([in_arm("r1", "control", "s1")])
    before = set(store.keys())
    store.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable, match="OutOfMemoryError"):
            log.append([vote("r1", "up", 2.0)])
    finally:
        store.config_set("maxmemory", "0")
    assert set(store.keys()) == before
    assert log.latest("r1", "s1") is None
    assert [appended.status for appended in log.append([vote("r1", "up", 2.0)])] == ["new"]


def test_a_server_that_lost_its_scripts_is_taught_them_again(store: redis.Redis) -> None:
    log = RedisEventLog(store)
    log.append([response("r1")])
    store.script_flush()
    assert [appended.status for appended in log.append([response("r1"), response("r2")])] == ["repeat", "new"]


def test_a_group_of_events_is_one_round_trip(store: redis.Redis) -> None:
    log = RedisEventLog(store)
    log.append([response("warm")])
    before = store.info("stats")["total_reads_processed"]
    log.append([response(f"r{n}") for n in range(10)])
    assert store.info("stats")["total_reads_processed"] - before < 5


def test_an_entry_that_does_not_decode_is_set_aside_and_blocks_nobody(store: redis.Redis) -> None:
    log = RedisEventLog(store)
    log.append([response("r1")])
    store.xadd(keys.EVENTS, {"k": "vote", "e": b"{torn"})
    store.xadd(keys.EVENTS, {"other": "thing"})
    log.append([response("r2")])
    assert [entry.event.event_id for entry in log.claim("w", 10)] == ["r1", "r2"]
    assert store.llen(keys.DAMAGED) == 2
    assert store.xpending(keys.EVENTS, keys.ARCHIVE_GROUP)["pending"] == 2


def test_every_change_is_announced_with_its_generation(store: redis.Redis) -> None:
    listener = store.pubsub()
    listener.subscribe(keys.CHANGES)
    registry = RedisRegistry(store)
    registry.add_adapter(adapter())
    heard = []
    while len(heard) < 1:
        message = listener.get_message(ignore_subscribe_messages=True, timeout=5)
        if message is not None:
            heard.append(int(message["data"]))
    listener.close()
    assert heard == [registry.generation()]


def test_the_server_tells_whether_it_is_durable(store: redis.Redis) -> None:
    assert durability(store) == Durability("yes", "always", "noeviction")
    assert durability(store).durable is True
    store.config_set("appendfsync", "everysec")
    try:
        assert RedisEventLog(store).durability().durable is False
    finally:
        store.config_set("appendfsync", "always")


def test_a_server_that_forbids_the_question_leaves_durability_unknown(
    store: redis.Redis, valkey_url: str
) -> None:
    store.execute_command("ACL", "SETUSER", "tenant", "on", ">pw", "~*", "+@all", "-config")
    try:
        client = connect(valkey_url.replace("redis://", "redis://tenant:pw@"))
        found = durability(client)
        assert found == Durability(None, None, None)
        assert found.durable is None
        RedisEventLog(client).ping()
    finally:
        store.execute_command("ACL", "DELUSER", "tenant")


def test_everything_written_stands_in_the_list_of_keys(store: redis.Redis) -> None:
    log, registry = RedisEventLog(store), RedisRegistry(store)
    log.append([in_arm("a", "x", "s1", comparison_id="c1"), in_arm("b", "y", "s1"), vote("a", "up", 2.0)])
    log.append(
        [
            comparison(("a",), ("b",)),
            label("a", {"t": 1.0}, 1.0),
            report("rp-1", "a"),
            vote("late", "up", 3.0),
            vote("late", "down", 4.0),
        ]
    )
    log.claim("w", 1)
    log.forget("s9", 1.0)
    registry.add_adapter(adapter())
    registry.report_engine("engine-0", [], 60)
    registry.set_loop("heed", {"a": 1})
    registry.acquire("train", "w", 60)
    registry.put_receipt({"id": "fr-1", "requested": 1.0})
    listed = [value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)]
    makers = [
        keys.seen,
        keys.awaited,
        keys.response,
        keys.voice,
        keys.history,
        keys.subject,
        keys.spoken,
        keys.counts,
    ]
    makers += [keys.entered, keys.tallies, keys.engine, keys.loop, keys.lease, keys.fence, keys.forgotten]
    patterns = [maker("*") for maker in makers] + [keys.exposed("*", "*"), keys.paired("*", "*"), *listed]
    expressions = [re.compile(re.escape(pattern).replace(r"\*", "[^:]+")) for pattern in patterns]
    written = {key.decode() for key in store.scan_iter()}
    assert [key for key in written if not any(e.fullmatch(key) for e in expressions)] == []
    used = {
        pattern
        for pattern, e in zip(patterns, expressions, strict=True)
        if any(e.fullmatch(k) for k in written)
    }
    assert {*(maker("*") for maker in makers), keys.paired("*", "*")} <= used
    forever = re.compile(
        r"heed:(events|waiting|reports|votes|shapes|generation|adapters|engines|receipts|counts:|exposed:|loop:|fence:)"
    )
    assert [key for key in written if store.ttl(key) < 0 and not forever.match(key)] == []


def test_forgetting_leaves_no_trace_of_the_name_in_the_store(store: redis.Redis) -> None:
    log, registry = RedisEventLog(store), RedisRegistry(store)
    registry.put_experiment(experiment())
    who = "s-feedface"
    log.append([in_arm("r1", "control", who), in_arm("r2", "candidate", who), vote("r1", "up", 2.0, who)])
    log.append(
        [
            comparison(("r1",), ("r2",), subject=who),
            label("r1", {"t": 1.0}, 2.0, who),
            report("rp-1", "r1", 3.0, who),
        ]
    )
    log.claim("w", 3)
    store.config_set("rdbcompression", "no")  # so that a name in a dump could be seen
    log.forget(who, 1000.0)
    for key in list(store.scan_iter()):
        assert who.encode() not in key
        assert who.encode() not in store.dump(key)
    assert [values[b"k"] for _, values in store.xrange(keys.EVENTS)] == [b"filler"]
    assert log.counts("exp")["control"].up == 1


def test_after_the_rewriting_no_file_of_the_server_has_the_name_or_the_text(tmp_path: Path) -> None:
    who = "s-feedface"

    def found(what: str) -> bool:
        return any(what.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    with valkey_server(tmp_path) as (url, _), redis.Redis.from_url(url) as client:
        client.config_set("rdbcompression", "no")  # so that a name in it could be seen
        log = RedisEventLog(client)
        log.append(
            [response("r1", who, text="a private text"), vote("r1", "up", 2.0, who, comment="my comment")]
        )
        log.append([response("r2", "s-other", text="another text")])
        assert found(who)
        upto = log.forget(who, 1000.0)
        assert not log.gone(upto)  # a stream keeps what is deleted as long as what stands beside it
        log.append([response("r3", "s-other", text="a later text")])
        held = log.claim("w", 2)
        assert [entry.event.event_id for entry in held] == ["r2"]  # the filler is no event
        log.ack([entry.position for entry in held])
        log.trim()
        assert log.gone(upto)
        assert log.backlog().events == 1
        assert found("a private text")  # the journal remembers
        assert log.rewrite()
        deadline = time.monotonic() + 120
        while not log.rewritten() or found(who):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert not found("a private text")
        assert not found("my comment")
        assert found("a later text")


def test_a_lease_that_is_handed_on_while_an_adapter_is_added_adds_nothing(
    store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = RedisRegistry(store)
    token = registry.acquire("round:heed", "a", 60)
    assert token is not None
    transaction = store.transaction

    def meanwhile(change: Callable[[Any], Any], *watched: str, **more: Any) -> Any:
        def then_hand_on(pipe: Any) -> Any:
            result = change(pipe)  # has read the lease and queued the record
            registry.release("round:heed", "a")
            registry.acquire("round:heed", "b", 60)
            return result

        return transaction(then_hand_on, *watched, **more)

    monkeypatch.setattr(store, "transaction", meanwhile)
    with pytest.raises(LeaseLost):
        registry.add_adapter(adapter("a-1"), ("round:heed", token))
    assert registry.adapters() == []


async def test_every_change_is_heard_at_once_and_a_lost_server_is_noticed(tmp_path: Path) -> None:
    with valkey_server(tmp_path) as (url, child):
        registry, heard = RedisRegistry(connect(url)), changes(url)
        await anext(heard)
        for number in range(3):
            registry.put_alias(AliasRecord(name=f"alias-{number}"))
            await asyncio.wait_for(anext(heard), 60.0)
        nothing = asyncio.ensure_future(anext(heard))
        registry.set_loop("heed", {"step": 1})
        await asyncio.sleep(0.2)
        assert not nothing.done()
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(nothing, 60.0)
    with pytest.raises(StoreUnavailable):
        await anext(changes(url))
