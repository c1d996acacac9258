"""Swaps under streaming load: how many requests fail, and does any reply mix two adapters?

    python -m benchmarks.swaps --swaps 200 --engines 3 --streams 8

Starts a real Valkey, real float32 vLLM engines with the starter model and a real gateway; publishes adapters with
random weights, so that each answers a greedy prompt in its own way; then promotes them in turn while clients stream
greedily without a pause. A reply is *whole* when it equals, to the letter, what the adapter that the gateway names
for it answers alone; *misnamed* when it is another's; anything else is *mixed*. Two controls say what that is worth:
the same load without swaps, where no reply may change, and replies mixed on purpose, which must all be noticed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp

from benchmarks.results import Figure, Row, parser_of, percentile
from benchmarks.stage import Stage, stage

DESCRIPTION = (
    "200 swaps over three engines under streaming load: failed requests, replies of two adapters, latency"
)
PROMPTS = ("When do you open?", "Do you have oat milk?", "Can I bring my dog?", "What is a flat white?")
GREEDY = {"temperature": 0, "max_tokens": 48}
CALM_SECONDS = 10.0
LONGEST_SWAP = 30.0


@dataclass(frozen=True)
class Heard:
    """One streamed reply. Times are monotonic seconds."""

    status: int
    adapter: str  # as the gateway names it
    prompt: str
    text: str
    began: float
    first: float  # of the first text
    ended: float


@dataclass(frozen=True)
class SwapFigures:
    """What one run showed."""

    swaps: int
    engines: int
    requests: int
    failed: int
    mixed: int
    misnamed: int
    crossed: int  # replies during which a swap took place
    swap_p50_seconds: float  # from the call that promotes to the first text of the new adapter
    swap_p95_seconds: float
    first_token_p50_seconds: float  # of all chats of the load
    first_token_p95_seconds: float
    calm_replies: int  # of the same load without swaps
    calm_changed: int  # of these, not what the adapter answers alone
    spliced: int  # replies mixed on purpose
    spliced_noticed: int
    replies_by_adapter: dict[str, int]


Alone = dict[tuple[str, str], str]


def judged(reply: Heard, alone: Alone) -> str:
    """``whole``, ``misnamed`` or ``mixed``; ``alone`` holds the text by adapter and prompt."""
    if alone.get((reply.adapter, reply.prompt)) == reply.text:
        return "whole"
    others = (text for (_, prompt), text in alone.items() if prompt == reply.prompt)
    return "misnamed" if reply.text in others else "mixed"


async def ask(session: aiohttp.ClientSession, url: str, model: str, prompt: str) -> Heard:
    """One greedy streamed reply; 599 when the connection broke."""
    messages = [{"role": "user", "content": prompt}]
    body = {"model": model, "messages": messages, "stream": True, **GREEDY}
    began, first, text = time.monotonic(), 0.0, ""
    try:
        debug = {"Heed-Debug": "1"}
        async with session.post(f"{url}/v1/chat/completions", json=body, headers=debug) as reply:
            status, adapter = reply.status, reply.headers.get("Heed-Adapter", "")
            async for line in reply.content:
                if line.startswith(b"data: {"):
                    text += said(json.loads(line[6:]))
                    first = first or (time.monotonic() if text else 0.0)
    except aiohttp.ClientError:
        status, adapter = 599, ""
    return Heard(status, adapter, prompt, text, began, first, time.monotonic())


def said(event: dict[str, list[dict[str, dict[str, str]]]]) -> str:
    """The text of one chunk."""
    return "".join(choice["delta"].get("content") or "" for choice in event.get("choices", []))


class Load:
    """Clients that stream without a pause until told to stop, each with the models in turn."""

    def __init__(self, session: aiohttp.ClientSession, url: str, models: Sequence[str]) -> None:
        self.session, self.url, self.models = session, url, models
        self.replies: list[Heard] = []
        self.stopping = False

    async def run(self, streams: int) -> None:
        await asyncio.gather(*(self._client(index) for index in range(streams)))

    async def _client(self, index: int) -> None:
        for turn in itertools.count(index):
            if self.stopping:
                return
            model, prompt = self.models[turn % len(self.models)], PROMPTS[turn % len(PROMPTS)]
            self.replies.append(await ask(self.session, self.url, model, prompt))


async def speaking_alone(session: aiohttp.ClientSession, at: Stage) -> Alone:
    """What every adapter and the base answer when nobody else asks. Raises AssertionError when two agree."""
    alone = {}
    for adapter, prompt in itertools.product((*at.adapters, "base"), PROMPTS):
        reply = await ask(session, at.url, f"heed:{adapter}", prompt)
        assert (reply.status, reply.adapter) == (200, adapter), reply
        alone[adapter, prompt] = reply.text
    assert len({(prompt, text) for (_, prompt), text in alone.items()}) == len(alone), alone
    return alone


async def calm(session: aiohttp.ClientSession, at: Stage, streams: int) -> list[Heard]:
    """The load with all adapters in one batch, and nothing swapped."""
    load = Load(session, at.url, [f"heed:{adapter}" for adapter in (*at.adapters, "base")])
    running = asyncio.create_task(load.run(streams))
    await asyncio.sleep(CALM_SECONDS)
    load.stopping = True
    await running
    return load.replies


async def spliced(session: aiohttp.ClientSession, at: Stage, alone: Alone) -> list[Heard]:
    """Replies begun by one adapter and ended by another, in the name of the first."""
    made = []
    for (first, prompt), second in itertools.product(alone, (*at.adapters, "base")):
        if first == second:
            continue
        half = alone[first, prompt][: len(alone[first, prompt]) // 2]
        messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": half}]
        body = {"model": second, "messages": messages, "continue_final_message": True, **GREEDY}
        body["add_generation_prompt"] = False
        async with session.post(f"{at.engine_url}/v1/chat/completions", json=body) as answer:
            rest = (await answer.json())["choices"][0]["message"]["content"]
        made.append(Heard(200, first, prompt, half + rest, 0.0, 0.0, 0.0))
    return made


async def swap_in_turn(at: Stage, load: Load, swaps: int) -> list[tuple[float, float]]:
    """Promote adapter after adapter; when each was promoted, and seconds from then to its first text."""
    done = []
    for number in range(swaps):
        adapter = at.adapters[number % len(at.adapters)]
        seen, began = len(load.replies), time.monotonic()
        async with load.session.post(f"{at.url}/v1/adapters/{adapter}/promote", json={}) as answer:
            assert answer.status == 200, await answer.text()
        while not (firsts := told_since(began, adapter, load.replies[seen:])):
            assert time.monotonic() - began < LONGEST_SWAP, f"swap {number} to {adapter} was never heard"
            await asyncio.sleep(0.01)
        done.append((began, min(firsts) - began))
    return done


def told_since(began: float, adapter: str, replies: Sequence[Heard]) -> list[float]:
    """When each reply by the adapter that was asked for since then said its first; it was live before, too."""
    return [heard.first for heard in replies if heard.adapter == adapter and heard.began >= began]


async def measure(at: Stage, swaps: int, streams: int) -> SwapFigures:
    """Both controls, then the load with swaps; every reply is judged."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        alone = await speaking_alone(session, at)
        mixed_on_purpose = await spliced(session, at, alone)
        unswapped = await calm(session, at, streams)
        load = Load(session, at.url, ["heed"])
        running = asyncio.create_task(load.run(streams))
        done = await swap_in_turn(at, load, swaps)
        load.stopping = True
        await running
    answered = [heard for heard in load.replies if heard.status == 200]
    verdicts = Counter(judged(heard, alone) for heard in answered)
    waits, firsts = [wait for _, wait in done], [heard.first - heard.began for heard in answered]
    return SwapFigures(
        swaps=len(done),
        engines=len(at.engines),
        requests=len(load.replies),
        failed=len(load.replies) - len(answered),
        mixed=verdicts["mixed"],
        misnamed=verdicts["misnamed"],
        crossed=sum(any(heard.first < at < heard.ended for at, _ in done) for heard in answered),
        swap_p50_seconds=percentile(waits, 0.5),
        swap_p95_seconds=percentile(waits, 0.95),
        first_token_p50_seconds=percentile(firsts, 0.5),
        first_token_p95_seconds=percentile(firsts, 0.95),
        calm_replies=len(unswapped),
        calm_changed=sum(judged(heard, alone) != "whole" for heard in unswapped),
        spliced=len(mixed_on_purpose),
        spliced_noticed=sum(judged(heard, alone) == "mixed" for heard in mixed_on_purpose),
        replies_by_adapter=dict(Counter(heard.adapter for heard in answered)),
    )


def run(arguments: Sequence[str]) -> list[Row]:
    """Parse and measure; one row."""
    parser = parser_of(__doc__)
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--engines", type=int, default=3)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--adapters", type=int, default=3)
    told = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as folder,
        stage(Path(folder), told.adapters, engines=told.engines) as at,
    ):
        return [asdict(asyncio.run(measure(at, told.swaps, told.streams)))]


def figures(rows: Sequence[Row]) -> list[Figure]:
    """What failed, what mixed, and how long a swap takes."""
    (row,) = rows
    under = f"{row['swaps']} swaps over {row.get('engines', 1)} engines under streaming load"
    controls = (
        f"controls: {row['spliced_noticed']} of {row['spliced']} mixed on purpose noticed; "
        f"{row['calm_changed']} of {row['calm_replies']} changed without a swap"
    )
    return [
        Figure(f"requests failed during {under}", f"{row['failed']} of {row['requests']}"),
        Figure(
            f"replies of two adapters, {row['crossed']} of them streaming across a swap",
            f"{row['mixed'] + row['misnamed']} of {row['requests'] - row['failed']}",
            controls,
        ),
        Figure(
            "adapter swap, from the call that promotes to the first text of the new one, p50 (p95)",
            f"{1000 * row['swap_p50_seconds']:.0f} ({1000 * row['swap_p95_seconds']:.0f}) ms",
            f"first token of any chat under this load: {1000 * row['first_token_p50_seconds']:.0f} "
            f"({1000 * row['first_token_p95_seconds']:.0f}) ms",
        ),
    ]


if __name__ == "__main__":
    for result in run(sys.argv[1:]):
        print(json.dumps(result))
