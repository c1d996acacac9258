"""Access: keys in every process, no look-up that tells foreign from absent, and no cross-site requests."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import redis

from deploy.access_keys import Terms, create_key, revoke_key
from feedback.errors import InvalidId
from feedback.ids import COMPARISON, RESPONSE, Secrets, mint_response, verify
from feedback.registry import RedisRegistry
from feedback.store import connect
from tests.servers import gateway_server
from tests.unit.serve.fake_engine import FakeEngine
from tests.unit.serve.running import Running, running

HICCUP = 0.1  # seconds


async def seconds_until(session: aiohttp.ClientSession, urls: list[str], key: str, status: int) -> float:
    """How long until every gateway answers a key so. A question whose answer takes long counts as HICCUP: that the
    machine has no time for us is no matter of keys.
    """
    waited, deadline = 0.0, time.monotonic() + 120
    for url in urls:
        while True:
            began = time.monotonic()
            async with session.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {key}"}) as answer:
                if answer.status == status:
                    break
            assert time.monotonic() < deadline, f"still {answer.status}"
            await asyncio.sleep(0.01)
            waited += min(HICCUP, time.monotonic() - began)
    return waited


async def test_every_process_knows_a_key_and_its_revocation_within_a_second(
    tmp_path: Path, store: redis.Redis, valkey_url: str, fake: FakeEngine
) -> None:
    registry, urls = RedisRegistry(connect(valkey_url)), []
    _, admin = create_key(registry, Terms(["admin"]))
    with ExitStack() as stack:
        for number in range(2):
            starting = gateway_server(tmp_path / str(number), valkey_url, fake.url, ready="healthz")
            url, _ = await asyncio.to_thread(stack.enter_context, starting)
            urls.append(url)
        async with aiohttp.ClientSession() as session:
            assert await seconds_until(session, urls, admin, 200) < 5
            record, key = create_key(registry, Terms(["chat"]))
            assert await seconds_until(session, urls, key, 200) < 1
            revoke_key(registry, record.id)
            assert await seconds_until(session, urls, key, 401) < 1
            assert await seconds_until(session, urls, admin, 200) < 1


async def test_no_route_tells_a_foreign_id_from_one_that_never_was(
    tmp_path: Path, store: redis.Redis, valkey_url: str, fake: FakeEngine
) -> None:
    async with running(tmp_path, engines=[fake.url], redis_url=valkey_url) as up:
        mine = str((await up.chat(user="alice"))[1]["id"])
        chat = {"model": "heed", "messages": [{"role": "user", "content": "hi"}], "user": "alice"}
        pair = str((await up.call("POST", "/v1/chat/comparisons", chat))[1]["id"])
        voted = {"response_id": mine, "rating": "up", "user": "alice"}
        assert (await up.call("POST", "/v1/feedback", voted))[0] == 201
        for about, theirs in ((RESPONSE, mine), (COMPARISON, pair)):
            forged = theirs[:-4] + ("aaaa" if not theirs.endswith("aaaa") else "bbbb")
            ids = (theirs, forged, f"{about}nonsense", mine if about == COMPARISON else pair)
            found = [await every_answer(up, one, about) for one in ids]
            assert all(answer == found[0] for answer in found)
            assert {status for status, _ in found[0]} == {404}


async def every_answer(up: Running, thing: str, about: str) -> list[tuple[int, str]]:
    """What bob is told of an id by every route that takes one."""
    bob: dict[str, Any] = {"user": "bob"}
    if about == COMPARISON:
        asked = [("POST", "/v1/comparisons", {"comparison_id": thing, "preferred": 0, **bob})]
    else:
        asked = [
            ("POST", "/v1/feedback", {"response_id": thing, "rating": "up", **bob}),
            ("GET", f"/v1/feedback/{thing}?user=bob", None),
            ("DELETE", f"/v1/feedback/{thing}?user=bob", None),
            ("POST", "/v1/labels", {"response_id": thing, "labels": {"helpful": 1}, **bob}),
            ("POST", "/v1/reports", {"response_id": thing, "kind": "unsafe", **bob}),
            ("POST", "/v1/comparisons", {"ranking": [[thing], [f"{thing}x"]], **bob}),
        ]
    found = [await up.call(method, path, body) for method, path, body in asked]
    return [(status, json.dumps(body)) for status, body in found]


def test_foreign_forged_and_absent_ids_take_as_long() -> None:
    secrets = Secrets((b"a" * 32, b"b" * 32))
    theirs = mint_response(secrets, "s-alice", now=1.0)
    ids = {"foreign": theirs, "forged": theirs[:-4] + "aaaa", "absent": RESPONSE + "nonsense"}
    took: dict[str, list[int]] = {name: [] for name in ids}
    for _ in range(3000):  # in turn, so that a busy machine slows all alike
        for name, one in ids.items():
            began = time.perf_counter_ns()
            with pytest.raises(InvalidId):
                verify(secrets, one, "s-bob", now=2.0, life_seconds=60.0)
            took[name].append(time.perf_counter_ns() - began)
    medians = [statistics.median(times) for times in took.values()]
    assert max(medians) < 1.5 * min(medians), dict(zip(took, medians, strict=True))


async def test_another_site_gets_no_leave_to_call_and_no_answer_it_could_read(
    tmp_path: Path, store: redis.Redis, valkey_url: str, fake: FakeEngine
) -> None:
    asked = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with running(tmp_path, engines=[fake.url], redis_url=valkey_url) as up:
        for method, path in (
            ("OPTIONS", "/v1/chat/completions"),
            ("OPTIONS", "/v1/feedback"),
            ("POST", "/v1/chat/completions"),
            ("GET", "/v1/me"),
            ("GET", "/"),
        ):
            async with up.http.request(method, up.url + path, headers=asked) as answer:
                assert answer.status == 403, (method, path)
                assert not [name for name in answer.headers if name.lower().startswith("access-control")]
        async with up.http.options(f"{up.url}/v1/chat/completions", headers={"Origin": up.url}) as answer:
            assert answer.status == 405
            assert "access-control-allow-origin" not in answer.headers
        assert not fake.bodies
