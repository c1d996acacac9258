"""Engines break off in the midst of streams: another one goes on, and the client sees one whole reply."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis

from feedback.events import Response
from serve import asking, engine_client, engines
from serve.breaker import Breaker
from tests.unit.serve.fake_engine import PROMPT_TOKENS, FakeEngine, fake_engine
from tests.unit.serve.running import Running, running, until

WHOLE = "hello from base!"


@dataclass
class Two:
    """A gateway before two engines, of which ``first`` is the one that a lone chat is sent to."""

    up: Running
    first: FakeEngine
    second: FakeEngine

    async def stream(self, path: str = "chat/completions", **body: Any) -> tuple[list[dict[str, Any]], bool]:
        """The events of one stream, and whether it said that it was whole."""
        body = {"model": "heed", "messages": [{"role": "user", "content": "hi"}], "stream": True, **body}
        async with self.up.http.post(f"{self.up.url}/v1/{path}", json=body) as answer:
            assert answer.status == 200
            lines = [line[6:] for line in (await answer.text()).split("\n") if line.startswith("data: ")]
        done = lines[-1] == "[DONE]"
        return [json.loads(line) for line in (lines[:-1] if done else lines)], done


@pytest.fixture
async def two(tmp_path: Path, store: redis.Redis, valkey_url: str) -> AsyncIterator[Two]:
    async with (
        fake_engine() as one,
        fake_engine() as other,
        running(tmp_path, engines=[one.url, other.url], redis_url=valkey_url) as up,
    ):
        status, _, _ = await up.chat()  # which of them is asked is a matter of the prompt
        assert status == 200
        first, second = (one, other) if one.bodies else (other, one)
        first.bodies.clear()
        yield Two(up, first, second)


def text_of(events: list[dict[str, Any]], index: int = 0) -> str:
    choices = [choice for event in events for choice in event.get("choices", ())]
    return "".join(one["delta"].get("content") or "" for one in choices if one["index"] == index)


async def logged(up: Running, count: int) -> list[Response]:
    await until(lambda: up.gateway.log.backlog().events >= count)
    entries = up.gateway.log.claim("test", 100)
    return [entry.event for entry in entries if isinstance(entry.event, Response)]


@pytest.mark.parametrize("sent", [1, 2, 3, 4])  # the role; then a word each
async def test_a_stream_goes_on_from_the_tokens_that_were_sent(two: Two, sent: int) -> None:
    two.first.break_after_chunks = sent
    events, done = await two.stream(stream_options={"include_usage": True}, max_tokens=50)
    assert done
    assert text_of(events) == WHOLE
    assert [event["usage"] for event in events if event.get("usage")] == [
        {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    ]
    assert {(event["id"], event["model"]) for event in events} == {(events[0]["id"], "heed")}
    assert "token_ids" not in json.dumps(events)
    (asked,) = two.second.asked_to_go_on
    assert asked["prompt"] == [*PROMPT_TOKENS, *range(sent - 1)]
    assert asked["max_tokens"] == 50 - (sent - 1)


async def test_the_event_names_the_engine_that_ended_it_and_has_the_whole_text(two: Two) -> None:
    two.first.break_after_chunks = 3
    await two.stream()
    newest = (await logged(two.up, 2))[-1]
    assert (newest.text, newest.finish_reason, newest.code) == (WHOLE, "stop", 200)
    assert (newest.prompt_tokens, newest.completion_tokens) == (3, 4)
    served = {engine.name: engine.client.url for engine in two.up.gateway.pool.engines}
    assert served[newest.engine] == two.second.url


@pytest.mark.parametrize("cut", [0, 5])
async def test_an_error_event_is_not_passed_on_but_made_good(two: Two, cut: int) -> None:
    two.first.error_after_chunks, two.first.cut = 3, cut
    events, done = await two.stream()
    assert done
    assert text_of(events) == WHOLE
    assert not [event for event in events if "error" in event]


async def test_a_reply_that_breaks_twice_still_comes_whole(two: Two) -> None:
    two.first.break_after_chunks = two.second.break_after_chunks = 2
    stream = asyncio.create_task(two.stream())
    await until(lambda: two.second.asked_to_go_on)
    two.first.break_after_chunks = None
    events, done = await stream
    assert done
    assert text_of(events) == WHOLE
    assert two.first.asked_to_go_on[0]["prompt"] == [*PROMPT_TOKENS, 0, 1, 2]


async def test_a_chat_that_breaks_every_engine_is_given_up_after_three(two: Two) -> None:
    two.first.break_after_chunks, two.second.break_after_chunks = 2, 0
    events, done = await two.stream()
    assert not done
    assert events[-1]["error"]["code"] == "engine_error"
    assert len(two.first.asked_to_go_on) + len(two.second.asked_to_go_on) == 2


async def test_an_engine_that_told_all_and_broke_before_its_end_needs_no_other(two: Two) -> None:
    two.first.break_after_chunks = 6  # role, four words, the reason why it ended
    events, done = await two.stream(stream_options={"include_usage": True})
    assert done
    assert text_of(events) == WHOLE
    assert events[-1]["usage"]["completion_tokens"] == 4
    assert not two.second.asked_to_go_on
    assert not two.second.bodies


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


async def test_what_the_chat_route_makes_of_tokens_is_told_again_and_what_was_sent_left_out(two: Two) -> None:
    two.first.break_after_chunks = 3
    events, done = await two.stream(tools=[TOOL])
    assert done
    assert text_of(events) == WHOLE
    asked, again = two.first.bodies[0], two.second.bodies[0]
    assert asked["seed"] == again["seed"]
    assert asked["messages"] == again["messages"]


async def test_a_second_telling_that_differs_ends_with_an_error_and_not_with_a_lie(two: Two) -> None:
    two.first.break_after_chunks = 3
    two.second.says = ["hello ", "to ", "you"]
    events, done = await two.stream(tools=[TOOL])
    assert not done
    assert text_of(events) == "hello from "
    assert "error" in events[-1]


async def test_both_sides_of_a_comparison_go_on(two: Two) -> None:
    two.first.break_after_chunks = 3
    events, done = await two.stream("chat/comparisons")
    assert done
    assert [text_of(events, side) for side in (0, 1)] == [WHOLE, WHOLE]


async def test_without_another_engine_the_stream_waits_and_then_ends_with_an_error(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "TAKE_OVER_SECONDS", 0.3)
    two.second.healthy = False
    await until(lambda: sum(engine.up for engine in two.up.gateway.pool.engines) == 1)
    two.first.break_after_chunks = 3
    two.first.healthy = False
    began = time.monotonic()
    events, done = await two.stream()
    assert not done
    assert text_of(events) == "hello from "
    assert events[-1]["error"]["code"] == "engine_error"
    assert 0.3 <= time.monotonic() - began < 15, "it is far from the 60 s it waits by default"


async def test_counts_are_given_back_whatever_broke(two: Two) -> None:
    two.first.break_after_chunks = 3
    await asyncio.gather(*(two.stream() for _ in range(8)))
    gateway = two.up.gateway
    await until(lambda: gateway.limits.places.in_flight == 0)
    assert [(engine.load, dict(engine.in_flight)) for engine in gateway.pool.engines] == [(0, {}), (0, {})]


async def test_a_drained_engine_gets_no_new_chats_and_ends_those_it_has(two: Two) -> None:
    two.first.pause = 0.1
    running_chat = asyncio.create_task(two.stream())
    await until(lambda: two.first.bodies)
    name = next(one.name for one in two.up.gateway.pool.engines if one.client.url == two.first.url)
    assert (await two.up.call("PATCH", f"/v1/engines/{name}", {"draining": True}))[0] == 200
    await until(lambda: not all(engine.open for engine in two.up.gateway.pool.engines))
    assert text_of((await two.stream())[0]) == WHOLE
    assert text_of((await running_chat)[0]) == WHOLE
    assert (len(two.first.bodies), len(two.second.bodies)) == (1, 1)
    await two.up.call("PATCH", f"/v1/engines/{name}", {"draining": False})
    await until(lambda: all(engine.open for engine in two.up.gateway.pool.engines))
    status, body = await two.up.call("PATCH", "/v1/engines/engine-9", {"draining": True})
    assert (status, body["error"]["code"]) == (404, "engine_not_found")


async def test_the_streams_of_an_engine_that_hangs_go_on_elsewhere(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_client, "CONTROL", aiohttp.ClientTimeout(total=1.0))
    monkeypatch.setattr(engines, "SILENT_SECONDS", 0.3)
    two.first.hangs = True
    events, done = await two.stream()
    assert done
    assert text_of(events) == WHOLE
    assert two.second.asked_to_go_on


async def test_the_streams_of_an_engine_whose_core_hangs_go_on_elsewhere_until_it_answers_again(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_client, "CONTROL", aiohttp.ClientTimeout(total=1.0))
    monkeypatch.setattr(engines, "SILENT_SECONDS", 0.3)
    hung = next(one for one in two.up.gateway.pool.engines if one.client.url == two.first.url)
    hung.pulse.patience = 0.4
    two.first.frozen = True
    (events, done), (more, more_done) = await asyncio.gather(two.stream(), two.stream(temperature=1))
    assert done
    assert more_done
    assert text_of(events) == text_of(more) == WHOLE
    assert len(two.second.asked_to_go_on) == 2
    assert not hung.open
    assert text_of((await two.stream())[0]) == WHOLE
    assert len(two.second.bodies) == 1
    two.first.frozen = False
    await until(lambda: hung.open)
    assert text_of((await two.stream())[0]) == WHOLE
    assert len(two.first.bodies) == 3


async def test_a_slow_engine_whose_counts_move_is_left_in_peace(two: Two) -> None:
    hung = next(one for one in two.up.gateway.pool.engines if one.client.url == two.first.url)
    hung.pulse.patience = 2.0
    two.first.holds_after = 3
    stream = asyncio.create_task(two.stream())
    await until(lambda: two.first.bodies)
    began = time.monotonic()
    while time.monotonic() - began < 2.5 * hung.pulse.patience:
        two.first.tokens += 1  # whose text is held back
        await asyncio.sleep(0.05)
    two.first.holds_after = None
    events, done = await stream
    assert done
    assert text_of(events) == WHOLE
    assert not two.second.asked_to_go_on


async def test_an_engine_that_fails_what_another_can_answer_is_left_alone(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Breaker, "_pause", lambda _: 300.0)
    two.first.refuse = (500, "something broke")
    for _ in range(3):
        assert (await two.up.chat())[0] == 200
    broken = next(one for one in two.up.gateway.pool.engines if one.client.url == two.first.url)
    assert broken.up
    assert not broken.open
    asked = len(two.first.bodies)
    assert (await two.up.chat())[0] == 200
    assert len(two.first.bodies) == asked


async def test_a_chat_that_every_engine_fails_is_the_chats_fault_and_closes_no_engine(two: Two) -> None:
    two.first.refuse = two.second.refuse = (500, "a schema that this engine cannot compile")
    for _ in range(5):
        status, body, _ = await two.up.chat()
        assert (status, body["error"]["code"]) == (502, "engine_error")
    assert all(engine.open for engine in two.up.gateway.pool.engines)
