"""Faults of our own in the midst of a request: told in the contract's shape, counted, and nothing stays held."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from serve.asking import Asking
from serve.middleware.headers import PLAIN
from serve.routes import feedback
from tests.unit.serve.fake_engine import FakeEngine
from tests.unit.serve.running import Running

CHAT = {"model": "heed", "messages": [{"role": "user", "content": "hi"}]}
VOTE = {"response_id": "chatcmpl-x", "rating": "up"}


def fails(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("ours")


def counted(up: Running, code: int) -> float:
    """Chats that ended with the code."""
    (family,) = up.gateway.metrics.chat_requests.collect()
    return sum(
        one.value for one in family.samples if one.name.endswith("_total") and one.labels["code"] == str(code)
    )


@pytest.fixture
async def faulty(up: Running, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """A gateway whose engines cannot be asked and whose votes cannot be checked."""
    monkeypatch.setattr(Asking, "_begin", fails)
    monkeypatch.setattr(feedback, "verified", fails)
    yield up
    assert up.gateway.limits.places.in_flight == 0
    assert up.gateway.metrics.in_flight._value.get() == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["chat/completions", "chat/comparisons", "feedback"])
async def test_a_fault_of_ours_is_told_as_every_error_is(faulty: Running, path: str, stream: bool) -> None:
    body = VOTE if path == "feedback" else {**CHAT, "stream": stream}
    ids = set()
    for _ in range(2):
        async with faulty.http.post(f"{faulty.url}/v1/{path}", json=body) as answer:
            told = await answer.json()
            assert (answer.status, told["error"]["code"]) == (500, "internal_error")
            assert "ours" not in told["error"]["message"]
            assert {name: answer.headers.get(name) for name in PLAIN} == PLAIN
            ids.add(answer.headers["x-request-id"])
    assert len(ids) == 2
    if path != "feedback":
        assert counted(faulty, 500) == 2


async def test_a_fault_of_ours_within_a_stream_breaks_it_off_and_is_counted(
    up: Running, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Asking, "resume", fails)
    fake.break_after_chunks = 2
    async with up.http.post(f"{up.url}/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    assert (counted(up, 500), counted(up, 200)) == (1, 0)
    assert up.gateway.limits.places.in_flight == 0
    assert [engine.load for engine in up.gateway.pool.engines] == [0]


async def test_a_stream_whose_engine_says_an_error_and_then_that_it_is_done_is_not_whole(
    up: Running, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As vLLM does when its core dies."""
    monkeypatch.setattr("serve.asking.TAKE_OVER_SECONDS", 0.1)
    fake.error_after_chunks = 3
    async with up.http.post(f"{up.url}/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
        said = await answer.text()
    assert "[DONE]" not in said
    assert '"code":"engine_error"' in said.rstrip().rpartition("\n")[2]
    assert (counted(up, 502), counted(up, 200)) == (1, 0)
