"""Limits as clients meet them: over HTTP, on a real store, in several gateway processes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
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
from serve import places
from tests.servers import gateway_server, valkey_server
from tests.unit.serve.fake_engine import FakeEngine
from tests.unit.serve.running import Running, running, until

LATELY = 20  # answers of a gateway
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
    began = time.monotonic()
    for left in range(59, -1, -1):
        status, _, headers = await up.chat(key, user=f"u-{left}")
        assert status == 200
        assert headers["x-ratelimit-limit-requests"] == "60"
        flowed = time.monotonic() - began  # one a second
        assert left <= int(headers["x-ratelimit-remaining-requests"]) <= left + flowed
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
    key = await with_key(
        up, tokens_per_minute=10
    )  # the fake's replies are of 9: the second leaves less than none
    for _ in range(2):
        body = {**CHAT, "stream": stream}
        async with up.http.post(f"{up.url}/v1/chat/completions", json=body, headers=key) as served:
            assert served.status == 200
            assert served.headers["x-ratelimit-limit-tokens"] == "10"
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


async def test_in_overload_low_is_refused_first_and_high_last(
    up: Running, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    monkeypatch.setattr(places, "TURN_SECONDS", 60.0)
    late = asyncio.create_task(up.chat(keys["high"]))  # waits for its turn
    await until(lambda: up.gateway.limits.places._turns)
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
    fake.holds_after = 0
    first = asyncio.create_task(up.chat(one))
    await until(lambda: up.gateway.limits.places.in_flight == 1)
    status, body, _ = await up.chat(one)
    assert (status, body["error"]["code"]) == (429, "too_many_chats")
    second = asyncio.create_task(up.chat(other))
    await until(lambda: len(fake.bodies) == 2)
    fake.holds_after = None
    assert [(await chat)[0] for chat in (first, second)] == [200, 200]


async def test_an_engine_that_is_full_is_not_asked_again_for_more_than_it_took(
    up: Running, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "FULL_SECONDS", 60.0)
    monkeypatch.setattr(places, "TURN_SECONDS", 60.0)
    high, normal = await with_key(up, priority="high"), await with_key(up)
    fake.holds_after = 0
    held = [asyncio.create_task(up.chat(high)) for _ in range(2)]
    await until(lambda: len(fake.bodies) == 2)
    fake.refuse = (503, "max_num_queued_reqs")
    status, body, headers = await up.chat(high)
    assert (status, body["error"]["code"], headers["Retry-After"]) == (503, "engine_busy", "1")
    fake.refuse = None
    status, body, _ = await up.chat(normal)
    assert (status, body["error"]["code"]) == (503, "at_capacity")
    assert len(fake.bodies) == 3
    late = asyncio.create_task(up.chat(high))
    await until(lambda: up.gateway.limits.places._turns)
    assert len(fake.bodies) == 3
    fake.holds_after = None
    assert (await late)[0] == 200, "it waits for its turn"
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


async def offered(urls: list[str], key: str, seconds: float, clients: int = 4) -> tuple[Counter[int], float]:
    """Statuses of what clients of every gateway get who ask again at once, and over how many seconds: so many at
    least, and until every gateway has refused more often than it served, lately: what may be used has been.
    """
    seen: Counter[int] = Counter()
    began = time.monotonic()
    lately = {url: deque([200] * LATELY, LATELY) for url in urls}
    headers = {"Authorization": f"Bearer {key}"}

    def enough() -> bool:
        refused = all(statuses.count(429) > LATELY / 2 for statuses in lately.values())
        return time.monotonic() - began >= seconds and refused

    async def one(session: aiohttp.ClientSession, url: str) -> None:
        while not enough():
            async with session.post(f"{url}/v1/chat/completions", json=CHAT, headers=headers) as answer:
                seen[answer.status] += 1
                lately[url].append(answer.status)
                await answer.read()
            await asyncio.sleep(0.02 if answer.status == 429 else 0)

    async with asyncio.timeout(300), aiohttp.ClientSession() as session:
        await asyncio.gather(*(one(session, url) for url in urls for _ in range(clients)))
    return seen, time.monotonic() - began


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
            seen, took = await offered(urls, few, 8.0)
            assert set(seen) == {200, 429}
            assert 60 + took - 3 <= seen[200] <= 2 * 60 + took  # a burst each, before they have heard
            seen, took = await offered(urls, many, 8.0)
            assert set(seen) == {200, 429}
            assert seen[200] == pytest.approx(
                600 + 10 * took, abs=30
            )  # what was too much at first is made good
            server.kill()
            server.wait()
            seen, took = await offered(urls, alone, 3.0)
            assert set(seen) == {200, 429}
            assert seen[200] == pytest.approx(2 * (60 + took), abs=4)


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

        async def heard(url: str, status: int, words: str = "") -> None:
            """Ask until so answered: the gateways hear of each other once a second. What is let in meanwhile leaves,
            and counts until that is heard, too.
            """
            async with asyncio.timeout(120):
                while True:
                    with contextlib.suppress(TimeoutError):
                        got, said = await asyncio.wait_for(chat(url), 1.0)
                        if got == status and said.startswith(words):
                            return
                    await asyncio.sleep(0.5)

        held = [asyncio.create_task(chat(url)) for url in (one, one, two)]
        await until(lambda: len(fake.bodies) == 3)
        for url in (one, two):
            await heard(url, 429, "the key has 3 chats in flight and may have 3")
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        fake.wait_before_first = 0.0
        for url in (one, two):
            await heard(url, 200)
