"""Chats over real HTTP, against a fake engine where the real one cannot be made to fail."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import redis

from feedback.events import Response
from tests.unit.serve.fake_engine import FakeEngine, fake_engine
from tests.unit.serve.running import Running, running, until


async def events_of(up: Running, count: int = 1) -> list[Response]:
    """The first ``count`` Response events, once they are logged."""
    log = up.gateway.log
    await until(lambda: log.backlog().events >= count)
    entries = log.claim("test", 100)
    return [entry.event for entry in entries if isinstance(entry.event, Response)]


async def lines_of(up: Running, **body: object) -> list[str]:
    """The data lines of a streamed chat."""
    body = {"model": "heed", "messages": [{"role": "user", "content": "hi"}], "stream": True, **body}
    async with up.http.post(f"{up.url}/v1/chat/completions", json=body) as answer:
        assert answer.status == 200
        text = await answer.text()
    return [line[6:] for line in text.split("\n") if line.startswith("data: ")]


async def test_a_chat_is_answered_under_the_alias_and_logged(up: Running, fake: FakeEngine) -> None:
    status, body, headers = await up.chat(temperature=0.5)
    assert status == 200
    assert body["model"] == "heed"
    assert body["id"].startswith("chatcmpl-")
    assert body["choices"][0]["message"]["content"] == "hello from base!"
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
    assert not [name for name in headers if name.lower().startswith("heed-")]
    assert fake.headers[0]["x-request-id"] == body["id"].removeprefix("chatcmpl-")
    (event,) = await events_of(up)
    assert (event.response_id, event.text, event.adapter, event.arm) == (
        body["id"],
        "hello from base!",
        "base",
        "live",
    )
    assert event.messages == ({"role": "user", "content": "hi"},)
    assert event.sampling == {"temperature": 0.5}
    assert (event.prompt_tokens, event.completion_tokens, event.finish_reason) == (5, 4, "stop")


@pytest.mark.parametrize("cut", [0, 1, 7])
async def test_a_stream_is_renamed_whatever_the_network_cut(up: Running, fake: FakeEngine, cut: int) -> None:
    fake.cut = cut
    lines = await lines_of(up)
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert {chunk["model"] for chunk in chunks} == {"heed"}
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "hello from base!"
    assert all("usage" not in chunk for chunk in chunks)
    (event,) = await events_of(up)
    assert (event.text, event.completion_tokens) == ("hello from base!", 4)
    assert event.response_id == chunks[0]["id"]


async def test_usage_comes_in_the_stream_when_it_is_asked_for(up: Running) -> None:
    lines = await lines_of(up, stream_options={"include_usage": True})
    last = json.loads(lines[-2])
    assert last["usage"]["total_tokens"] == 9
    assert last["model"] == "heed"
    assert "system_fingerprint" not in last


async def test_store_false_keeps_no_text(up: Running) -> None:
    _, body, _ = await up.chat(store=False)
    (event,) = await events_of(up)
    assert (event.stored, event.messages, event.text) == (False, (), "")
    status, answer = await up.call("POST", "/v1/feedback", {"response_id": body["id"], "rating": "up"})
    assert (status, answer["error"]["code"]) == (409, "response_not_stored")


async def test_guidelines_come_first(up: Running, fake: FakeEngine) -> None:
    await up.call("PATCH", "/v1/aliases/heed", {"guidelines": "Be kind."})
    await up.chat(messages=[{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "hi"}])
    assert fake.bodies[-1]["messages"][0] == {"role": "system", "content": "Be kind.\n\nRhyme."}


async def test_nothing_unknown_reaches_the_engine(up: Running, fake: FakeEngine) -> None:
    status, body, _ = await up.chat(chat_template_kwargs={"x": 1})
    assert (status, body["error"]["param"]) == (400, "chat_template_kwargs")
    await up.chat(
        headers={"X-Vllm-Priority": "-9", "X-Request-Id": "mine"}, user="alice", metadata={"a": "b"}
    )
    assert len(fake.bodies) == 1
    assert set(fake.bodies[0]) == {"model", "messages"}
    assert "x-vllm-priority" not in fake.headers[0]
    assert fake.headers[0]["x-request-id"] != "mine"


async def test_an_unknown_model_is_told_in_openais_words(up: Running) -> None:
    status, body, _ = await up.chat(model="nobody")
    assert (status, body["error"]["code"], body["error"]["param"]) == (404, "model_not_found", "model")


async def test_the_engines_refusal_is_passed_on_without_its_names(up: Running, fake: FakeEngine) -> None:
    fake.refuse = (400, "max_tokens is too large")
    status, body, _ = await up.chat()
    assert (status, body["error"]["message"]) == (400, "max_tokens is too large")


async def test_a_cold_engine_is_told_with_retry_after(
    tmp_path: Path, store: redis.Redis, valkey_url: str
) -> None:
    async with running(tmp_path, engines=["http://127.0.0.1:9"], redis_url=valkey_url) as up:
        status, body, headers = await up.chat()
        assert (status, body["error"]["message"]) == (503, "the engine is warming up")
        assert headers["Retry-After"] == "2"
        assert (await up.call("GET", "/readyz"))[0] == 503
        assert (await up.call("GET", "/healthz"))[0] == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_another_engine_takes_over_before_the_first_byte(
    tmp_path: Path, store: redis.Redis, valkey_url: str, fake: FakeEngine, stream: bool
) -> None:
    async with fake_engine() as broken:
        broken.break_before_first = True
        broken.healthy = True
        async with running(tmp_path, engines=[broken.url, fake.url], redis_url=valkey_url) as up:
            for _ in range(6):
                if stream:
                    assert (await lines_of(up))[-1] == "[DONE]"
                else:
                    assert (await up.chat())[0] == 200
            assert len(fake.bodies) == 6


async def test_a_stream_that_breaks_ends_with_an_error_and_no_done(up: Running, fake: FakeEngine) -> None:
    fake.break_after_chunks = 3
    fake.pause = 0.02
    lines = await lines_of(up)
    assert "[DONE]" not in lines
    assert json.loads(lines[-1])["error"]["code"] == "engine_error"
    (event,) = await events_of(up)
    assert (event.finish_reason, event.code) == (None, 502)


async def test_the_engine_stops_when_the_client_leaves(up: Running, fake: FakeEngine) -> None:
    fake.holds_after = 2
    body = {"model": "heed", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    answer = await up.http.post(f"{up.url}/v1/chat/completions", json=body)
    await answer.content.readany()
    answer.close()
    await until(lambda: fake.aborted == 1)
    await until(lambda: up.gateway.pool.engines[0].load == 0)
    (event,) = await events_of(up)
    assert event.finish_reason is None
    assert event.code == 200


async def test_chat_goes_on_without_the_store(tmp_path: Path, fake: FakeEngine) -> None:
    async with running(tmp_path, engines=[fake.url], redis_url="redis://127.0.0.1:9/0") as up:
        status, body, _ = await up.chat()
        assert status == 200
        await until(lambda: up.gateway.metrics.spool_events._value.get() >= 1)
        status, answer = await up.call("POST", "/v1/feedback", {"response_id": body["id"], "rating": "up"})
        assert (status, answer["status"]) == (202, "spooled")


async def test_a_comparison_shows_two_sides_blind(up: Running) -> None:
    asked = {"model": "heed", "messages": [{"role": "user", "content": "hi"}]}
    status, body = await up.call("POST", "/v1/chat/comparisons", asked)
    assert status == 200
    assert body["id"].startswith("cmpr-")
    assert [choice["index"] for choice in body["choices"]] == [0, 1]
    assert len({choice["response_id"] for choice in body["choices"]}) == 2
    events = {event.side: event for event in await events_of(up, 2)}
    assert {side: event.response_id for side, event in events.items()} == {
        choice["index"]: choice["response_id"] for choice in body["choices"]
    }
    assert {event.comparison_id for event in events.values()} == {body["id"]}
    assert events[1].sampling["seed"] - events[0].sampling["seed"] == 1
    said = {"comparison_id": body["id"], "preferred": 1, "reasons": ["kind"]}
    status, answer = await up.call("POST", "/v1/comparisons", said)
    assert (status, answer["status"], answer["preferred"]) == (201, "stored", 1)
    assert answer["ranking"] == [[events[1].response_id], [events[0].response_id]]
    assert (await up.call("POST", "/v1/comparisons", said))[0] == 200


async def test_a_comparison_is_stored_and_may_say_so(up: Running, fake: FakeEngine) -> None:
    asked = {"model": "heed", "messages": [{"role": "user", "content": "hi"}]}
    assert (await up.call("POST", "/v1/chat/comparisons", {**asked, "store": True}))[0] == 200
    before = len(fake.bodies)
    status, answer = await up.call("POST", "/v1/chat/comparisons", {**asked, "store": False})
    assert (status, answer["error"]["param"], answer["error"]["code"]) == (400, "store", "invalid_value")
    assert len(fake.bodies) == before


async def test_a_streamed_comparison_interleaves_under_its_index(up: Running) -> None:
    asked = {"model": "heed", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    async with up.http.post(f"{up.url}/v1/chat/comparisons", json=asked) as answer:
        text = await answer.text()
    lines = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert [choice["index"] for choice in chunks[0]["choices"]] == [0, 1]
    assert all(choice["response_id"].startswith("chatcmpl-") for choice in chunks[0]["choices"])
    assert {chunk["id"] for chunk in chunks} == {chunks[0]["id"]}
    for side in (0, 1):
        said = [
            c["delta"].get("content", "") for chunk in chunks for c in chunk["choices"] if c["index"] == side
        ]
        assert "".join(said) == "hello from base!"


@pytest.mark.parametrize("path", ["chat/completions", "chat/comparisons"])
async def test_the_engine_stops_when_the_client_leaves_before_the_first_byte(
    up: Running, fake: FakeEngine, path: str
) -> None:
    fake.wait_before_first = 30.0
    body = {"model": "heed", "messages": [{"role": "user", "content": "hi"}]}
    sides = 1 if path == "chat/completions" else 2
    asked = asyncio.create_task(up.http.post(f"{up.url}/v1/{path}", json=body))
    await until(lambda: len(fake.bodies) == sides)
    asked.cancel()
    await until(lambda: fake.aborted == sides)
    await until(lambda: up.gateway.pool.engines[0].load == 0)
    assert up.gateway.limits.places.in_flight == 0
