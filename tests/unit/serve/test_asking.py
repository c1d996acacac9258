"""Who is blamed when a chat ends early, and what is given back: nobody for a client's leaving, and everything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from feedback.memory import MemoryEventLog, MemoryRegistry
from serve import asking, record
from serve.engines import Engine
from serve.gateway import Stores
from tests.unit.serve.fake_engine import FakeEngine, fake_engine
from tests.unit.serve.running import Running, running, until

WHOLE = "hello from base!"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@dataclass
class Two:
    """A gateway before two engines, of which ``first`` is the one that a lone chat is sent to."""

    up: Running
    first: FakeEngine
    second: FakeEngine

    def asking(self, path: str = "chat/completions", **body: Any) -> Any:
        body = {"model": "heed", "messages": [{"role": "user", "content": "hi"}], "stream": True, **body}
        return self.up.http.post(f"{self.up.url}/v1/{path}", json=body)

    async def stream(self, path: str = "chat/completions", **body: Any) -> tuple[str, str]:
        """The text of index 0, and the last line."""
        async with self.asking(path, **body) as answer:
            lines = [line[6:] for line in (await answer.text()).split("\n") if line.startswith("data: ")]
        chunks = [json.loads(line) for line in lines if line != "[DONE]"]
        choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
        text = "".join(one["delta"].get("content") or "" for one in choices if one["index"] == 0)
        return text, lines[-1]

    async def all_given_back(self) -> None:
        gateway = self.up.gateway
        await until(lambda: gateway.limits.places.in_flight == 0)
        assert [(one.load, dict(one.in_flight)) for one in gateway.pool.engines] == [(0, {}), (0, {})]

    def engine(self, fake: FakeEngine) -> Engine:
        return next(one for one in self.up.gateway.pool.engines if one.client.url == fake.url)

    @property
    def blamed(self) -> list[str]:
        """The URLs of engines that are down or whose breaker counts a failure."""
        engines = self.up.gateway.pool.engines
        return [one.client.url for one in engines if not one.up or one.breaker.failures]


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    stores = Stores(MemoryEventLog(), MemoryRegistry())
    async with (
        fake_engine() as one,
        fake_engine() as other,
        running(
            tmp_path, engines=[one.url, other.url], redis_url="redis://127.0.0.1:9/0", stores=stores
        ) as up,
    ):
        assert (await up.chat())[0] == 200  # which of them is asked is a matter of the prompt
        first, second = (one, other) if one.bodies else (other, one)
        first.bodies.clear()
        yield Two(up, first, second)


@pytest.mark.parametrize("path", ["chat/completions", "chat/comparisons"])
async def test_a_client_that_leaves_is_no_engines_fault(two: Two, path: str) -> None:
    two.first.holds_after = two.second.holds_after = 2
    for _ in range(3):
        async with two.asking(path) as answer:
            await answer.content.read(10)
    await until(lambda: two.first.aborted + two.second.aborted >= 3)
    two.first.holds_after = two.second.holds_after = None
    await two.all_given_back()
    assert two.blamed == []
    assert (await two.up.chat())[0] == 200


@pytest.mark.parametrize("path", ["chat/completions", "chat/comparisons"])
async def test_a_client_that_left_is_counted_as_such(two: Two, path: str) -> None:
    two.first.holds_after = two.second.holds_after = 2
    async with two.asking(path) as answer:
        await answer.content.read(10)
    await two.all_given_back()
    async with two.up.http.get(f"{two.up.url}/metrics") as got:
        metrics = await got.text()
    codes = {
        line.split('code="')[1][:3]
        for line in metrics.splitlines()
        if line.startswith("heed_chat_requests_total") and 'alias="heed"' in line
    }
    assert codes == {"200", "499"}


async def test_when_one_side_of_a_comparison_fails_the_other_is_ended_and_not_blamed(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "MOST_BROKEN", 0)
    two.second.holds_after, two.first.break_after_chunks = 2, 2
    release = two.engine(two.first).hold("base")  # so that the second side is sent to the other engine
    _, last = await asyncio.wait_for(two.stream("chat/comparisons"), 60)  # the other side has no end
    release()
    assert "engine_error" in last
    assert (len(two.first.bodies), len(two.second.bodies)) == (1, 1)
    await asyncio.sleep(0.1)  # what a side left behind would have asked again
    await two.all_given_back()
    assert two.blamed == [two.first.url]
    assert (len(two.first.bodies), len(two.second.bodies)) == (1, 1)


async def test_a_telling_that_differs_is_no_engines_fault(two: Two) -> None:
    two.first.break_after_chunks = 3
    two.second.says = ["other words"]
    text, last = await two.stream(tools=[TOOL])
    assert text == "hello from "
    assert "engine_error" in last
    assert two.blamed == [two.first.url]
    await two.all_given_back()


async def test_a_stream_that_broke_in_its_first_event_is_told_whole_by_another_engine(two: Two) -> None:
    whole = two.first._events
    two.first._events = lambda *asked: [whole(*asked)[0][:20], b""]  # type: ignore[method-assign]
    two.first.break_after_chunks = 1
    async with two.asking(stream_options={"include_usage": True}) as answer:
        lines = (await answer.text()).split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(line[6:]) for line in lines[:-2]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {chunk["created"] for chunk in chunks} == {1}
    assert "".join(one["delta"]["content"] for chunk in chunks for one in chunk["choices"]) == WHOLE


async def test_a_reply_too_long_to_be_remembered_is_not_told_twice(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "COPY_BYTES", 100)
    monkeypatch.setattr(record, "UNREAD_BYTES", 10)
    two.first.break_after_chunks = 3
    text, last = await two.stream()
    assert text == "hello from "
    assert "engine_error" in last
    assert not two.second.bodies
    await two.all_given_back()


async def test_a_client_that_leaves_while_no_engine_can_take_over_gives_its_place_back(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "TAKE_OVER_SECONDS", 300.0)
    two.engine(two.second).draining = True
    two.first.healthy, two.first.break_after_chunks = False, 3
    async with two.asking() as answer:
        assert answer.status == 200
        await until(lambda: not two.engine(two.first).up)
        assert two.up.gateway.limits.places.in_flight == 1
    await two.all_given_back()


async def test_many_streams_over_an_engine_that_breaks_all_end_and_it_serves_again_at_once(two: Two) -> None:
    two.first.pause = two.second.pause = 0.02
    streams = [asyncio.create_task(two.stream()) for _ in range(16)]
    await until(lambda: len(two.first.bodies) > 2)
    two.first.break_after_chunks = 0
    for task in asyncio.as_completed(streams, timeout=120):
        text, last = await task
        assert (text, last) == (WHOLE, "[DONE]")
    two.first.break_after_chunks = None
    await two.all_given_back()
    now = asyncio.get_running_loop().time()
    assert all(one.breaker.opens_at <= now + 2 for one in two.up.gateway.pool.engines)


async def test_a_slow_client_gets_all_of_a_long_reply(two: Two) -> None:
    two.first.says = two.second.says = ["#" * 1000] * 3000  # over what sockets hold
    seen = 0
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(connector=connector, read_bufsize=2048) as slow:
        body = {"model": "heed", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        async with slow.post(f"{two.up.url}/v1/chat/completions", json=body) as answer:
            await asyncio.sleep(0.2)
            async for data in answer.content.iter_any():
                seen += data.count(b"#")
                await asyncio.sleep(0)
    assert seen == 3_000_000
    await two.all_given_back()
