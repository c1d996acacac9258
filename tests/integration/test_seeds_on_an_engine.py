"""Seeded chats whose prompts an engine on a CPU reads in several steps: it lives, and the seed still says the text."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

pytestmark = pytest.mark.engine
SENTENCE = "When do you open, and can you help me with my order of last week? "
LONG, AT_ONCE = 48, 12
"""Of sentences, so that so many of them at once are more than a step takes (``--max-num-batched-tokens``)."""


async def test_long_prompts_with_seeds_at_once_leave_the_engine_alive(engine_url: str) -> None:
    async def asked(session: aiohttp.ClientSession, number: int) -> str:
        body = {
            "model": "base",
            "messages": [{"role": "user", "content": f"{number} " + SENTENCE * LONG}],
            "max_tokens": 12,
            "seed": number,
        }
        async with session.post(f"{engine_url}/v1/chat/completions", json=body) as reply:
            told: Any = await reply.json()
            assert reply.status == 200, told
            assert told["usage"]["prompt_tokens"] > 600
            return str(told["choices"][0]["message"]["content"])

    async with aiohttp.ClientSession() as session:
        together = await asyncio.gather(*(asked(session, number) for number in range(AT_ONCE)))
        alone = [await asked(session, number) for number in range(AT_ONCE)]
        async with session.get(f"{engine_url}/health") as health:
            assert health.status == 200
    assert (
        sum(a == b for a, b in zip(together, alone, strict=True)) >= AT_ONCE - 2
    )  # other sums turn a draw now and then
    assert len(set(alone)) > AT_ONCE / 2
