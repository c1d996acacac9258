"""A stream that cannot be ended well raises in the official SDK; it never looks like an answer that is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
import redis

from serve import asking
from tests.unit.serve.fake_engine import fake_engine
from tests.unit.serve.running import running

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]


async def listen(stream: Any, heard: list[str]) -> None:
    """Gather the text until the stream ends, or raises."""
    async for chunk in stream:
        heard += [chunk.choices[0].delta.content or ""]


@pytest.mark.parametrize("chunks", [2, 4])
async def test_the_sdk_raises_when_the_only_engine_breaks_off(
    chunks: int, tmp_path: Path, store: redis.Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "TAKE_OVER_SECONDS", 0.5)  # nobody takes over here
    async with (
        fake_engine() as fake,
        running(tmp_path, engines=[fake.url], redis_url=valkey_url) as up,
        openai.AsyncOpenAI(base_url=f"{up.url}/v1", api_key="none", max_retries=0) as client,
    ):
        fake.break_after_chunks = chunks
        stream = await client.chat.completions.create(model="heed", messages=MESSAGES, stream=True)
        heard: list[str] = []
        with pytest.raises(openai.APIError) as caught:
            await listen(stream, heard)
    assert caught.value.code == "engine_error"
    assert "".join(heard) == "".join(fake.words("base")[: chunks - 1])
