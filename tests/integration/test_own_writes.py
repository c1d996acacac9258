"""Who changes an alias goes by the change with the next call, at whichever process: no wait is needed in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import redis

from tests.unit.serve.fake_engine import FakeEngine, fake_engine
from tests.unit.serve.running import Running, running

SELDOM = {"watch_seconds": 3600.0}  # no poll helps
DEBUG = {"Heed-Debug": "1"}


@pytest.fixture
async def fake() -> AsyncIterator[FakeEngine]:
    async with fake_engine() as engine:
        yield engine


@pytest.fixture
async def two(
    tmp_path: Path, store: redis.Redis, valkey_url: str, fake: FakeEngine
) -> AsyncIterator[tuple[Running, Running]]:
    """Gateways on one store, as two processes on one port are."""
    async with AsyncExitStack() as stack:
        yield tuple(
            [
                await stack.enter_async_context(
                    running(tmp_path / name, engines=[fake.url], redis_url=valkey_url, **SELDOM)
                )
                for name in ("one", "other")
            ]
        )


async def test_a_new_alias_answers_at_once_at_every_process(two: tuple[Running, Running]) -> None:
    one, other = two
    for number in range(20):
        name = f"product-{number}"
        status, _ = await one.call("POST", "/v1/aliases", {"name": name})
        assert status == 201
        at_the_other = await other.chat(model=name)
        assert (at_the_other[0], (await one.chat(model=name))[0]) == (200, 200), at_the_other
        blind = {"model": name, "messages": [{"role": "user", "content": "hi"}]}
        await one.call("POST", "/v1/aliases", {"name": f"{name}-b"})
        status, body = await other.call("POST", "/v1/chat/comparisons", {**blind, "model": f"{name}-b"})
        assert status == 200, body


async def test_changed_guidelines_and_a_new_experiment_hold_for_the_next_chat(
    two: tuple[Running, Running], fake: FakeEngine
) -> None:
    one, _ = two
    for number in range(20):
        status, _ = await one.call("PATCH", "/v1/aliases/heed", {"guidelines": f"Rule {number}."})
        assert status == 200
        await one.chat()
        assert fake.bodies[-1]["messages"][0] == {"role": "system", "content": f"Rule {number}."}
    arms = [
        {"name": "kept", "adapter": "base", "share": 0.5},
        {"name": "same", "adapter": "base", "share": 0.5},
    ]
    for number in range(5):
        made = {"name": f"try-{number}", "alias": "heed", "arms": arms}
        status, body = await one.call("POST", "/v1/experiments", made)
        assert status == 201, body
        _, _, headers = await one.chat(headers=DEBUG)
        assert headers["heed-arm"] in {"kept", "same"}
        status, body = await one.call("PATCH", f"/v1/experiments/try-{number}", {"status": "stopped"})
        assert status == 200, body
        _, _, headers = await one.chat(headers=DEBUG)
        assert headers["heed-arm"] not in {"kept", "same"}


async def test_a_name_that_nobody_made_is_not_there(two: tuple[Running, Running]) -> None:
    status, body, _ = await two[0].chat(model="nobody")
    assert (status, body["error"]["code"]) == (404, "model_not_found")
