"""Limits as clients meet them: over HTTP, on a real store, in several gateway processes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis

from deploy.access_keys import Terms, create_key
from feedback.registry import RedisRegistry
from feedback.store import connect
from tests.servers import gateway_server, valkey_server
from tests.unit.serve.fake_engine import FakeEngine
from tests.unit.serve.running import Running, running, until

CHAT = {"model": "heed", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
async def up(tmp_path: Path, store: redis.Redis, valkey_url: str, fake: FakeEngine) -> AsyncIterator[Running]:
    async with running(
        tmp_path, engines=[fake.url], redis_url=valkey_url, engine_chats=4, low_share=0.5
    ) as gateway:
        yield gateway


async def with_key(up: Running, **terms: Any) -> dict[str, str]:
    """The header of a new key that the gateway knows."""
    record, key = create_key(up.gateway.registry, Terms(["chat"], **terms))
    await until(lambda: record.digest in up.gateway.table.keys)
    return {"Authorization": f"Bearer {key}"}


async def test_a_key_over_its_requests_is_told_when_to_come_back_and_then_served(up: Running) -> None:
    key = await with_key(up, requests_per_minute=60)
    for left in range(59, -1, -1):
        status, _, headers = await up.chat(key, user=f"u-{left}")
        assert status == 200
        assert headers["x-ratelimit-limit-requests"] == "60"
        assert left <= int(headers["x-ratelimit-remaining-requests"]) <= left + 5  # some have flowed in
    while status == 200:
        status, body, headers = await up.chat(key, user="one more")
    assert status == 429
    assert body["error"]["code"] == "requests_limit"
    assert "60 requests a minute" in body["error"]["message"]
    assert headers["Retry-After"] == "1"
    await asyncio.sleep(1)
    assert (await up.chat(key, user="one more"))[0] == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_keys_tokens_are_charged_when_the_reply_has_ended(up: Running, stream: bool) -> None:
    key = await with_key(up, tokens_per_minute=18)  # the fake's replies are of 9
    for _ in range(2):
        body = {**CHAT, "stream": stream}
        async with up.http.post(f"{up.url}/v1/chat/completions", json=body, headers=key) as served:
            assert served.status == 200
            assert served.headers["x-ratelimit-limit-tokens"] == "18"
            await served.read()
    (bucket,) = (one for name, one in up.gateway.limits._buckets._buckets.items() if ":tokens:" in name)
    await until(lambda: bucket.left(time.monotonic()) < 1)  # it is charged off the hot path
    status, body, headers = await up.chat(key)
    assert status == 429
    assert body["error"]["code"] == "tokens_limit"
    assert 1 <= int(headers["Retry-After"]) <= 60


async def test_a_keys_tokens_are_charged_too_when_it_leaves_before_the_end(
    up: Running, fake: FakeEngine
) -> None:
    key = await with_key(up, tokens_per_minute=10)
    fake.says = ["word "] * 10 + ["and the last"] * 1000
    fake.pause = 0.01
    body = {**CHAT, "stream": True}
    async with up.http.post(f"{up.url}/v1/chat/completions", json=body, headers=key) as served:
        await served.content.readuntil(b"and the last")
    await until(lambda: fake.aborted == 1)
    (bucket,) = (one for name, one in up.gateway.limits._buckets._buckets.items() if ":tokens:" in name)
    await until(lambda: bucket.left(time.monotonic()) < 1)
    status, refused, _ = await up.chat(key)
    assert (status, refused["error"]["code"]) == (429, "tokens_limit")


async def test_a_key_that_leaves_before_a_whole_reply_is_charged_its_prompt(
    up: Running, fake: FakeEngine
) -> None:
    key = await with_key(up, tokens_per_minute=100)
    fake.wait_before_first = 60.0
    body = {"messages": [{"role": "user", "content": "four" * 100}]}
    chat = asyncio.create_task(up.chat(key, **body))
    await until(lambda: fake.bodies)
    chat.cancel()
    await until(lambda: fake.aborted == 1)
    status, refused, _ = await up.chat(key)
    assert (status, refused["error"]["code"]) == (429, "tokens_limit")


async def test_a_keys_priority_goes_to_the_engine_and_a_clients_own_word_does_not(
    up: Running, fake: FakeEngine
) -> None:
    for priority in ("high", "normal", "low"):
        assert (await up.chat(await with_key(up, priority=priority)))[0] == 200
    assert [body.get("priority", 0) for body in fake.bodies] == [-10, 0, 10]
    key = await with_key(up, priority="low")
    assert (await up.chat({**key, "X-Vllm-Priority": "-99"}))[0] == 200
    assert "x-vllm-priority" not in fake.headers[-1]
    assert (await up.chat(key, priority=-99))[0] == 400


async def test_in_overload_low_is_refused_first_and_high_last(up: Running, fake: FakeEngine) -> None:
    keys = {one: await with_key(up, priority=one) for one in ("high", "normal", "low")}
    fake.wait_before_first = 60.0
    held = []
    for busy, refused in ((0, set()), (2, {"low"}), (3, {"low", "normal"}), (4, {"low", "normal", "high"})):
        while len(held) < busy:
            held.append(asyncio.create_task(up.chat(keys["high"])))
        await until(lambda busy=busy: up.gateway.limits.places.in_flight == busy)  # type: ignore[misc]
        for priority in refused:
            status, body, headers = await up.chat(keys[priority])
            assert (status, body["error"]["code"]) == (503, "at_capacity"), (busy, priority)
            assert int(headers["Retry-After"]) >= 1
    fake.wait_before_first = 0.0
    late = asyncio.create_task(up.chat(keys["high"]))  # waits for its turn
    await until(lambda: not up.gateway.limits.places.free("high", 0))
    held.pop().cancel()
    assert (await late)[0] == 200
    for task in held:
        task.cancel()
    await until(lambda: up.gateway.limits.places.in_flight == 0)
    assert (await up.chat(keys["low"]))[0] == 200


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_what_a_subject_asks_about_itself_is_within_its_rate(up: Running, method: str) -> None:
    key = await with_key(up)
    most = int(up.gateway.settings.subject_burst)
    calls = [await up.call(method, "/v1/me?user=alice", headers=key) for _ in range(most + 20)]
    refused = [body["error"]["message"] for status, body in calls if status == 429]
    assert refused[:1] == ["too many requests of one user"]
    assert {status for status, _ in calls} == {429, 200 if method == "GET" else 202}


async def test_a_key_that_has_all_its_places_is_refused_and_another_is_not(
    up: Running, fake: FakeEngine
) -> None:
    one, other = await with_key(up, max_concurrent=1), await with_key(up)
    fake.wait_before_first = 0.5
    first = asyncio.create_task(up.chat(one))
    await until(lambda: up.gateway.limits.places.in_flight == 1)
    status, body, _ = await up.chat(one)
    assert (status, body["error"]["code"]) == (429, "too_many_chats")
    assert (await up.chat(other))[0] == 200
    assert (await first)[0] == 200


async def test_an_engine_that_is_full_is_not_asked_again_for_more_than_it_took(
    up: Running, fake: FakeEngine
) -> None:
    high = await with_key(up, priority="high")
    fake.wait_before_first = 1.0
    held = [asyncio.create_task(up.chat(high)) for _ in range(2)]
    await until(lambda: len(fake.bodies) == 2)
    fake.refuse = (503, "max_num_queued_reqs")
    status, body, headers = await up.chat(high)
    assert (status, body["error"]["code"], headers["Retry-After"]) == (503, "engine_busy", "1")
    fake.refuse = None
    status, body, _ = await up.chat(await with_key(up))
    assert (status, body["error"]["code"]) == (503, "at_capacity")
    assert len(fake.bodies) == 3
    assert (await up.chat(high))[0] == 200, "it waits for its turn"
    await asyncio.gather(*held)


@asynccontextmanager
async def gateways(folder: Path, count: int, redis_url: str, engine: str) -> AsyncIterator[list[str]]:
    """So many gateway processes on one store; their URLs."""
    settings = {
        "HEED_DATA_DIR": str(folder / "data"),
        "HEED_SUBJECT_RATE": "0",
        "HEED_SUBJECT_CHATS": "0",
    }
    with ExitStack() as stack:
        urls = []
        for number in range(count):
            starting = gateway_server(folder / str(number), redis_url, engine, **settings)
            url, _ = await asyncio.to_thread(stack.enter_context, starting)
            urls.append(url)
        yield urls


async def offered(urls: list[str], key: str, seconds: float, clients: int = 4) -> Counter[int]:
    """Statuses of what clients of every gateway get who ask again at once."""
    seen: Counter[int] = Counter()
    until_then = time.monotonic() + seconds
    headers = {"Authorization": f"Bearer {key}"}

    async def one(session: aiohttp.ClientSession, url: str) -> None:
        while time.monotonic() < until_then:
            async with session.post(f"{url}/v1/chat/completions", json=CHAT, headers=headers) as answer:
                seen[answer.status] += 1
                await answer.read()
            await asyncio.sleep(0.02 if answer.status == 429 else 0)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(one(session, url) for url in urls for _ in range(clients)))
    return seen


def three_keys(redis_url: str) -> list[str]:
    """Keys of 60, 600 and again 60 requests a minute."""
    registry = RedisRegistry(connect(redis_url))
    return [create_key(registry, Terms(["chat"], requests_per_minute=rate))[1] for rate in (60, 600, 60)]


async def test_processes_hold_a_keys_rate_together_and_each_alone_without_the_store(
    tmp_path: Path, fake: FakeEngine
) -> None:
    with valkey_server(tmp_path / "valkey") as (url, server):
        few, many, alone = three_keys(url)
        async with gateways(tmp_path, 2, url, fake.url) as urls:
            seen = await offered(urls, few, 8.0)
            assert set(seen) == {200, 429}
            assert 60 + 8 - 3 <= seen[200] <= 2 * 60 + 8  # a burst each, before they have heard
            seen = await offered(urls, many, 8.0)
            assert set(seen) == {200, 429}
            assert seen[200] == pytest.approx(600 + 80, abs=30)  # what was too much at first is made good
            server.kill()
            server.wait()
            seen = await offered(urls, alone, 3.0)
            assert set(seen) == {200, 429}
            assert seen[200] == pytest.approx(2 * (60 + 3), abs=4)


async def test_processes_hold_a_keys_chats_at_once_together(
    tmp_path: Path, valkey_url: str, store: redis.Redis, fake: FakeEngine
) -> None:
    _, key = create_key(RedisRegistry(connect(valkey_url)), Terms(["chat"], max_concurrent=3))
    headers, asked = {"Authorization": f"Bearer {key}"}, {"json": CHAT}
    fake.wait_before_first = 60.0
    async with (
        gateways(tmp_path, 2, valkey_url, fake.url) as (one, two),
        aiohttp.ClientSession(headers=headers) as session,
    ):

        async def chat(url: str) -> tuple[int, str]:
            async with session.post(f"{url}/v1/chat/completions", **asked) as answer:  # type: ignore[arg-type]
                return answer.status, (await answer.json()).get("error", {}).get("message", "")

        held = [asyncio.create_task(chat(url)) for url in (one, one, two)]
        await until(lambda: len(fake.bodies) == 3)
        await asyncio.sleep(1.5)  # what tells nothing new tells once a second
        for url in (one, two):
            status, said = await chat(url)
            assert status == 429
            assert said.startswith("the key has 3 chats in flight and may have 3")
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        fake.wait_before_first = 0.0
        await asyncio.sleep(1.5)
        assert [(await chat(url))[0] for url in (one, two)] == [200, 200]
