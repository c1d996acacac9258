"""How much better one adapter is than the base, measured from outside on prompts nobody trained on."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from deploy.preferences import preference
from deploy.visitor import CallFailed, Messages, Visitor, session

PROMPTS = 256
AT_ONCE = 16
ATTEMPTS = 4
Z95 = 1.959964


@dataclass(frozen=True)
class Quality:
    """Replies of ``model`` against replies of the base, scored by a hidden preference."""

    model: str
    win_rate: float  # ties count half
    lower: float  # 95 % Wilson interval of the win rate
    upper: float
    prompts: int
    mean_score: float  # of the model's replies, in the preference's own scale
    base_score: float


def wilson(rate: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share observed ``n`` times; (0, 1) without observations.

    With ties counted half it is a little too wide, since a tie varies less than a win.
    """
    if n == 0:
        return 0.0, 1.0
    centre = (rate + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(rate * (1 - rate) / n + Z95**2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def held_out(count: int = PROMPTS, seed: int = 7) -> list[Messages]:
    """Prompts in wordings that neither the starter model nor the simulated users have used."""
    from training.starter.corpus import held_out_prompts

    return list(held_out_prompts(count, seed))


async def evaluate(
    url: str,
    name: str,
    prompts: Sequence[Messages],
    *,
    model: str,
    base: str = "heed:base",
    base_texts: Sequence[str] | None = None,
) -> Quality:
    """Win rate of ``model`` over ``base`` by the preference called ``name``, at temperature 1, not stored.

    ``base_texts`` are replies of the base to the same prompts, when they have been asked for before. Raises
    CallFailed when a chat fails several times.
    """
    if base_texts is None:
        base_texts = await replies(url, prompts, base)
    return judged(name, prompts, model, await replies(url, prompts, model), base_texts)


async def replies(url: str, prompts: Sequence[Messages], model: str) -> list[str]:
    """One reply to each prompt. Raises CallFailed."""
    gate = asyncio.Semaphore(AT_ONCE)
    async with session(os.environ.get("HEED_API_KEY", "")) as http:
        visitor = Visitor(http, url, "quality-probe")

        async def one(messages: Messages) -> str:
            async with gate:
                return await _insist(visitor, messages, model)

        return list(await asyncio.gather(*(one(messages) for messages in prompts)))


def judged(
    name: str, prompts: Sequence[Messages], model: str, ours: Sequence[str], base_texts: Sequence[str]
) -> Quality:
    """What a preference says of two lists of replies to the same prompts."""
    score = preference(name)
    asked = [messages[-1]["content"] for messages in prompts]
    mine = [score(prompt, text) for prompt, text in zip(asked, ours, strict=True)]
    theirs = [score(prompt, text) for prompt, text in zip(asked, base_texts, strict=True)]
    points = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in zip(mine, theirs, strict=True)]
    n = len(points)
    rate = sum(points) / n if n else 0.5
    lower, upper = wilson(rate, n)
    return Quality(model, rate, lower, upper, n, sum(mine) / max(1, n), sum(theirs) / max(1, n))


async def _insist(visitor: Visitor, messages: Messages, model: str) -> str:
    for attempt in range(ATTEMPTS):
        try:
            return (await visitor.chat(messages, model=model, store=False)).text
        except CallFailed:
            if attempt == ATTEMPTS - 1:
                raise
            await asyncio.sleep(0.5 * 2**attempt)
    raise AssertionError("unreachable")
