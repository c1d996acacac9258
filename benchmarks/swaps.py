"""Swaps under streaming load: how many requests fail, and does any reply mix two adapters?

    python -m benchmarks.swaps --swaps 50 --streams 8

Starts a real Valkey, a real float32 vLLM engine with the starter model and a real gateway; publishes
adapters with random weights, so that each answers a greedy prompt in its own way; then promotes them in
turn while clients stream greedily without a pause. A reply is *whole* when it equals, to the letter, what
one of the adapters answers alone; anything else counts as mixed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp

from benchmarks.stage import Stage, stage
from feedback.registry import RedisRegistry
from feedback.store import connect

PROMPTS = ("When do you open?", "Do you have oat milk?", "Can I bring my dog?", "What is a flat white?")


@dataclass(frozen=True)
class SwapFigures:
    """What one run showed."""

    swaps: int
    requests: int
    failed: int
    mixed: int
    swap_p50_seconds: float  # from promote to the first reply of the new adapter
    swap_p95_seconds: float
    replies_by_adapter: dict[str, int]


async def ask(session: aiohttp.ClientSession, url: str, model: str, prompt: str) -> tuple[int, str]:
    """HTTP status and the whole text of one greedy streamed reply."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": 32,
        "stream": True,
    }
    text = []
    async with session.post(f"{url}/v1/chat/completions", json=body) as reply:
        async for line in reply.content:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                text += [choice["delta"].get("content") or "" for choice in event.get("choices", [])]
        return reply.status, "".join(text)


class Load:
    """Clients that stream without a pause until told to stop."""

    def __init__(self, url: str, streams: int) -> None:
        self.url, self.streams = url, streams
        self.replies: list[tuple[float, int, str, str]] = []  # (end, status, prompt, text)
        self.stopping = False

    async def run(self, session: aiohttp.ClientSession) -> None:
        await asyncio.gather(*(self._client(session, index) for index in range(self.streams)))

    async def _client(self, session: aiohttp.ClientSession, index: int) -> None:
        turn = index
        while not self.stopping:
            prompt = PROMPTS[turn % len(PROMPTS)]
            turn += 1
            try:
                status, text = await ask(session, self.url, "heed", prompt)
            except aiohttp.ClientError:
                status, text = 599, ""
            self.replies.append((time.monotonic(), status, prompt, text))


async def swap_in_turn(at: Stage, load: Load, alone: dict[tuple[str, str], str], swaps: int) -> list[float]:
    """Promote adapter after adapter; seconds from each promotion to the first reply in its own words."""
    registry = RedisRegistry(connect(at.redis_url))
    waits = []
    for number in range(swaps):
        adapter = at.adapters[number % len(at.adapters)]
        seen = len(load.replies)
        begun = time.monotonic()
        await asyncio.to_thread(registry.promote, "heed", adapter, f"swap {number}")
        while time.monotonic() - begun < 30:
            await asyncio.sleep(0.02)
            fresh = load.replies[seen:]
            if any(alone[adapter, prompt] == text for _, _, prompt, text in fresh):
                break
        waits.append(time.monotonic() - begun)
    return waits


async def measure(at: Stage, swaps: int, streams: int) -> SwapFigures:
    """Run the load and the swaps, then judge every reply."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        alone = {}
        for adapter in [*at.adapters, "base"]:
            for prompt in PROMPTS:
                alone[adapter, prompt] = (await ask(session, at.url, f"heed:{adapter}", prompt))[1]
        load = Load(at.url, streams)
        running = asyncio.create_task(load.run(session))
        waits = sorted(await swap_in_turn(at, load, alone, swaps))
        load.stopping = True
        await running
    whose = {(prompt, text): adapter for (adapter, prompt), text in alone.items()}
    spoken = Counter(
        whose.get((prompt, text), "mixed") for _, status, prompt, text in load.replies if status == 200
    )
    return SwapFigures(
        swaps=swaps,
        requests=len(load.replies),
        failed=sum(status != 200 for _, status, _, _ in load.replies),
        mixed=spoken.pop("mixed", 0),
        swap_p50_seconds=round(waits[len(waits) // 2], 3),
        swap_p95_seconds=round(waits[int(len(waits) * 0.95)], 3),
        replies_by_adapter=dict(spoken),
    )


def main() -> None:
    """Parse, run, print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--adapters", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder), adapters=args.adapters) as at:
        print(json.dumps(asdict(asyncio.run(measure(at, args.swaps, args.streams))), indent=1))


if __name__ == "__main__":
    main()
