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
    url: str, name: str, prompts: Sequence[Messages], *, model: str, base: str = "heed:base"
) -> Quality:
    """Win rate of ``model`` over ``base`` by the preference called ``name``, at temperature 1, not stored.

    Raises CallFailed when a chat fails several times.
    """
    score = preference(name)
    gate = asyncio.Semaphore(AT_ONCE)
    async with session(os.environ.get("HEED_API_KEY", "")) as http:
        visitor = Visitor(http, url, "quality-probe")

        async def scored(messages: Messages, asked: str) -> float:
            async with gate:
                text = await _insist(visitor, messages, asked)
            return score(messages[-1]["content"], text)

        ours = await asyncio.gather(*(scored(messages, model) for messages in prompts))
        theirs = await asyncio.gather(*(scored(messages, base) for messages in prompts))
    points = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in zip(ours, theirs, strict=True)]
    rate, n = sum(points) / max(1, len(points)), len(points)
    lower, upper = wilson(rate, n)
    return Quality(model, rate, lower, upper, n, sum(ours) / max(1, n), sum(theirs) / max(1, n))


async def _insist(visitor: Visitor, messages: Messages, model: str) -> str:
    for attempt in range(ATTEMPTS):
        try:
            return (await visitor.chat(messages, model=model, store=False)).text
        except CallFailed:
            if attempt == ATTEMPTS - 1:
                raise
            await asyncio.sleep(0.5 * 2**attempt)
    raise AssertionError("unreachable")
