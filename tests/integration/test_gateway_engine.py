"""Chats, votes and adapters against a real vLLM engine, with the official SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import redis

from tests.adapters import random_adapter
from tests.unit.serve.running import Running, running, until

pytestmark = pytest.mark.engine
QUESTION: list[Any] = [{"role": "user", "content": "When do you open?"}]


@pytest.fixture
async def up(
    tmp_path: Path, store: redis.Redis, valkey_url: str, engine_url: str, made: list[Path]
) -> AsyncIterator[Running]:
    imports = str(made[0].parent)
    async with running(
        tmp_path / "data", engines=[engine_url], redis_url=valkey_url, import_dirs=imports
    ) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters that answer each in its own way."""
    folder = tmp_path_factory.mktemp("made")
    return [random_adapter(folder / str(seed), seed) for seed in (1, 2)]


def sdk(up: Running) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{up.url}/v1", api_key="none", max_retries=0)


async def take_in(up: Running, folder: Path) -> str:
    """Import a folder; its id once it is ready."""
    status, body = await up.call("POST", "/v1/adapters", {"path": str(folder)})
    assert status == 201, body
    await until(lambda: body["id"] in up.gateway.pool.engines[0].ready, 180)
    return str(body["id"])


async def greedy(up: Running, model: str) -> str:
    _, body, _ = await up.chat(model=model, messages=QUESTION, temperature=0, max_tokens=32)
    return str(body["choices"][0]["message"]["content"])


async def test_the_official_sdk_chats_streams_and_votes(up: Running) -> None:
    async with sdk(up) as client:
        whole = await client.chat.completions.create(
            model="heed", messages=QUESTION, temperature=0, max_tokens=32, user="alice"
        )
        assert whole.model == "heed"
        assert whole.usage is not None
        assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
        stream = await client.chat.completions.create(
            model="heed",
            messages=QUESTION,
            temperature=0,
            max_tokens=32,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        assert {chunk.model for chunk in chunks} == {"heed"}
        assert len({chunk.id for chunk in chunks}) == 1
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.choices[0].message.content
        assert chunks[-1].usage == whole.usage
        assert {model.id async for model in client.models.list()} >= {"heed", "heed:base"}
    vote = {"response_id": whole.id, "rating": "up"}
    status, body = await up.call("POST", "/v1/feedback", vote)
    assert (status, body["error"]["code"]) == (404, "response_not_found")
    status, body = await up.call("POST", "/v1/feedback", {**vote, "user": "alice"})
    assert (status, body["status"]) == (201, "stored")


async def test_the_engines_own_complaints_name_the_field(up: Running) -> None:
    async with sdk(up) as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="heed", messages=QUESTION, max_tokens=5000)
    assert caught.value.type == "invalid_request_error"


async def test_logprobs_and_json_work_where_the_model_does(up: Running) -> None:
    async with sdk(up) as client:
        answer = await client.chat.completions.create(
            model="heed", messages=QUESTION, max_tokens=4, logprobs=True, top_logprobs=2, seed=1
        )
    assert answer.choices[0].logprobs is not None
    assert len(answer.choices[0].logprobs.content or []) == 4


async def test_an_imported_adapter_is_promoted_and_rolled_back_under_load(
    up: Running, made: list[Path], tmp_path: Path
) -> None:
    first = await take_in(up, made[0])
    second = await take_in(up, made[1])
    alone = {one: await greedy(up, f"heed:{one}") for one in ("base", first, second)}
    assert len(set(alone.values())) == 3
    replies: list[tuple[int, str]] = []
    newest: list[str] = []  # of chats that began after the last promotion was heard of
    heard = stop = False

    async def client() -> None:
        while not stop:
            begun = heard
            status, body, _ = await up.chat(messages=QUESTION, temperature=0, max_tokens=32)
            replies.append((status, body["choices"][0]["message"]["content"]))
            if begun:
                newest.append(replies[-1][1])

    clients = [asyncio.create_task(client()) for _ in range(3)]
    for step in (
        f"adapters/{first}/promote",
        f"adapters/{second}/promote",
        "rollback",
        f"adapters/{first}/promote",
    ):
        await asyncio.sleep(0.4)
        status, alias = await up.call("POST", f"/v1/{step}")
        assert status == 200, alias
    assert alias["live"] == first
    await until(lambda: up.gateway.table.aliases["heed"].live == first)
    heard = True
    await until(lambda: len(newest) >= 3, 180)
    stop = True
    await asyncio.gather(*clients)
    assert {status for status, _ in replies} == {200}
    assert {text for _, text in replies} <= set(alone.values())
    assert set(newest) == {alone[first]}
    status, shown = await up.call("GET", f"/v1/adapters/{second}")
    assert shown["state"] == "rejected"
    await until(lambda: second not in up.gateway.pool.engines[0].loaded)


async def test_an_adapter_whose_bytes_changed_is_rejected(
    up: Running, made: list[Path], tmp_path: Path
) -> None:
    name = await take_in(up, made[0])
    weights = tmp_path / "data" / "adapters" / name / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    await until(lambda: up.gateway.registry.adapter(name).state == "rejected")
    assert "sha256" in (up.gateway.registry.adapter(name).reason or "")
    assert await greedy(up, "heed")


async def test_nothing_tells_the_arm_unless_a_product_key_asks(
    up: Running, made: list[Path], tmp_path: Path
) -> None:
    name = await take_in(up, made[0])
    await up.call("POST", f"/v1/adapters/{name}/promote")
    await until(lambda: up.gateway.table.aliases["heed"].live == name)
    body = {"model": "heed", "messages": QUESTION, "stream": True, "stream_options": {"include_usage": True}}
    async with up.http.post(f"{up.url}/v1/chat/completions", json=body) as answer:
        told = str(answer.headers) + await answer.text()
    assert name not in told
    async with up.http.post(
        f"{up.url}/v1/chat/completions", json=body, headers={"Heed-Debug": "1"}
    ) as answer:
        assert answer.headers["Heed-Adapter"] == name
        assert name not in await answer.text()
