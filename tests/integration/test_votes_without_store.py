"""Votes while the store is gone, frozen or the disk is full: confirmed only when on a disk, and logged once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from feedback.events import Vote
from feedback.log import RedisEventLog
from feedback.store import connect
from tests.servers import free_port, valkey_server
from tests.unit.serve.fake_engine import FakeEngine
from tests.unit.serve.running import Running, running, until


async def replies(up: Running, count: int) -> list[str]:
    return [(await up.chat())[1]["id"] for _ in range(count)]


async def say(up: Running, response_id: str, rating: str = "up") -> tuple[int, Any]:
    return await up.call("POST", "/v1/feedback", {"response_id": response_id, "rating": rating})


async def test_votes_spooled_while_the_store_is_away_arrive_when_it_is_back(
    tmp_path: Path, fake: FakeEngine
) -> None:
    port = free_port()
    async with running(tmp_path / "data", engines=[fake.url], redis_url=f"redis://127.0.0.1:{port}/0") as up:
        [one] = await replies(up, 1)
        status, body = await say(up, one)
        assert (status, body["status"]) == (202, "spooled")
        with valkey_server(tmp_path / "valkey", port) as (url, _):
            log = RedisEventLog(connect(url))
            await until(lambda: log.backlog().events == 2, 120)
            kinds = [type(entry.event).__name__ for entry in log.claim("test", 10)]
            assert kinds == ["Response", "Vote"]
            await until(lambda: not up.gateway.writer.away)
            status, body = await say(up, one)
            assert (status, body["status"]) == (200, "stored")


async def test_votes_on_a_frozen_store_are_spooled_and_logged_once_when_it_wakes(
    tmp_path: Path, fake: FakeEngine
) -> None:
    with valkey_server(tmp_path / "valkey") as (url, server):
        async with running(tmp_path / "data", engines=[fake.url], redis_url=url) as up:
            ids = await replies(up, 30)
            assert (await say(up, ids[0]))[1]["status"] == "stored"
            os.kill(server.pid, signal.SIGSTOP)
            try:
                first = await say(up, ids[1])  # it has been sent to the store as well, which will do it late
                others = [await say(up, one) for one in ids[2:-1]]
                changed = await say(up, ids[1], "down")
            finally:
                os.kill(server.pid, signal.SIGCONT)
            statuses = {status for status, _ in (first, changed, *others)}
            assert statuses == {202}
            await until(lambda: not up.gateway.writer.away, 120)
            assert (await say(up, ids[-1]))[0] == 201
            log = RedisEventLog(connect(url))
            votes = [entry.event for entry in log.claim("w", 1000) if isinstance(entry.event, Vote)]
            assert Counter(vote.response_id for vote in votes) == Counter([*ids, ids[1]])
            subject = votes[0].subject
            latest = log.latest(ids[1], subject)
            assert latest is not None
            assert latest.rating == "down"
            assert log.votes_total("heed") == 31


@pytest.mark.parametrize("store", ["away", "there"])
async def test_a_disk_that_is_full_refuses_votes_only_while_the_store_is_away(
    tmp_path: Path, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    port = free_port()
    async with running(tmp_path / "data", engines=[fake.url], redis_url=f"redis://127.0.0.1:{port}/0") as up:
        ids = await replies(up, 3)
        assert (await say(up, ids[0]))[0] == 202
        fsync = os.fsync

        def full(descriptor: int) -> None:
            if Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".spool":
                raise OSError(28, "No space left on device")
            fsync(descriptor)

        monkeypatch.setattr("os.fsync", full)
        if store == "away":
            async with up.http.post(
                f"{up.url}/v1/feedback", json={"response_id": ids[1], "rating": "up"}
            ) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (503, "spool_full")
                assert int(answer.headers["retry-after"]) > 0
            monkeypatch.undo()
            assert (await say(up, ids[1]))[0] == 202
        with valkey_server(tmp_path / "valkey", port) as (url, _):
            await until(lambda: not up.gateway.writer.away, 120)
            assert (await say(up, ids[2]))[0] == 201
            log = RedisEventLog(connect(url))
            votes = [entry.event for entry in log.claim("w", 100) if isinstance(entry.event, Vote)]
            told = Counter(vote.response_id for vote in votes)
            assert told == Counter([ids[0], *([ids[1]] if store == "away" else []), ids[2]])


async def test_no_vote_asks_the_store_for_its_alias_and_gets_it_with_the_writing(
    tmp_path: Path, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    async with running(tmp_path, engines=[fake.url], redis_url=f"redis://127.0.0.1:{port}/0") as up:
        ids = await replies(up, 2)
        await say(up, ids[0])
        up.gateway.chats.recent.clear()  # as of responses that another process served
        asked: list[str] = []
        monkeypatch.setattr(up.gateway.log, "response", asked.append)
        assert (await say(up, ids[1]))[0] == 202
        with valkey_server(tmp_path / "valkey", port) as (url, _):
            await until(lambda: not up.gateway.writer.away, 120)
            assert (await say(up, ids[1], "down"))[0] == 200
            assert (await up.call("DELETE", f"/v1/feedback/{ids[1]}"))[0] == 200
            votes = [e.event for e in RedisEventLog(connect(url)).claim("w", 9) if isinstance(e.event, Vote)]
            assert [(vote.rating, vote.alias) for vote in votes] == [
                (rating, "heed") for rating in ("up", "up", "down", None)
            ]
        assert asked == []


async def test_two_gateways_of_one_host_share_a_spool_and_each_vote_is_logged_once(
    tmp_path: Path, fake: FakeEngine
) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    async with (
        running(tmp_path / "data", engines=[fake.url], redis_url=url) as one,
        running(tmp_path / "data", engines=[fake.url], redis_url=url) as two,
    ):
        ids = await replies(one, 20) + await replies(two, 120)
        said = [say(up, response_id) for response_id in ids for up in (one, two)]  # each through both
        assert {status for status, _ in await asyncio.gather(*said)} == {202}
        with valkey_server(tmp_path / "valkey", urlsplit(url).port):
            await until(lambda: not one.gateway.writer.away and not two.gateway.writer.away, 120)
            log = RedisEventLog(connect(url))
            votes = [entry.event for entry in log.claim("w", 1000) if isinstance(entry.event, Vote)]
            assert Counter(vote.response_id for vote in votes) == Counter(ids)
