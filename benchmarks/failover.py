"""An engine is killed in the midst of greedy streams: does every reply end, and with the same text?

    python -m benchmarks.failover --rounds 2 --hangs 1 --streams 100 --at-once 16

Two real float32 vLLM engines with the starter model and an adapter, one gateway. Each prompt is first answered with
nobody else about; then, as a control, a hundred streams without a kill; then rounds of a hundred in which one engine
after the other is killed with SIGKILL while replies come from it. A reply is complete when it is a 200 that ends with
a finish and `[DONE]` and holds no error; the same when its text is what the same adapter said alone. The engine that
was killed is started again, and is measured from healthy to holding the adapter before the next round begins.
At last rounds in which only its core is stopped, with SIGSTOP: its health stays good, and it says nothing any more.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import re
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.results import Figure, Row, parser_of
from benchmarks.stage import Stage, stage
from benchmarks.swaps import PROMPTS, said
from serve.pulse import PATIENCE_SECONDS
from tests.servers import MortalEngine, wait_until

DESCRIPTION = "an engine killed in 100 greedy streams: replies that end, and with the same text"
GREEDY = {"temperature": 0, "max_tokens": 96}


def holds(at: Stage, engine: int) -> bool:
    """Whether the gateway has proved the adapter on the engine, by its metrics."""
    with urllib.request.urlopen(f"{at.url}/metrics", timeout=5) as reply:
        return ready_in(reply.read().decode(), f"engine-{engine}", at.adapters[0])


def ready_in(metrics: str, engine: str, adapter: str) -> bool:
    """Whether metrics say that the engine has the adapter ready."""
    found = re.findall(r"^heed_engine_adapter_ready\{([^}]*)\} (\S+)$", metrics, re.MULTILINE)
    wanted = {f'engine="{engine}"', f'adapter="{adapter}"'}
    return any(wanted <= set(labels.split(",")) and float(value) == 1.0 for labels, value in found)


@dataclass(frozen=True)
class Reply:
    """One streamed reply. Times are monotonic seconds."""

    asked: tuple[str, str]  # model and prompt
    adapter: str  # as the gateway names it
    engine: str  # where it began
    text: str
    complete: bool
    began: float
    ended: float
    longest_pause: float  # between two events, seconds
    fault: str  # what went wrong, in few words


async def ask(http: aiohttp.ClientSession, url: str, model: str, prompt: str) -> Reply:
    """One greedy stream."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": True, **GREEDY}
    began = last = time.monotonic()
    adapter = engine = text = ""
    finished = done = False
    fault = ""
    pause = 0.0
    try:
        debug = {"Heed-Debug": "1"}
        async with http.post(f"{url}/v1/chat/completions", json=body, headers=debug) as reply:
            fault = "" if reply.status == 200 else f"{reply.status} {code_of(await reply.json())}"
            adapter, engine = reply.headers.get("Heed-Adapter", ""), reply.headers.get("Heed-Engine", "")
            async for line in reply.content:
                if not line.startswith(b"data: "):
                    continue
                now = time.monotonic()
                pause, last = max(pause, now - last), now
                event = {} if line.startswith(b"data: [DONE]") else json.loads(line[6:])
                done = not event
                fault = f"{len(text)} characters, then {code_of(event)}" if "error" in event else fault
                finished = finished or finishes(event)
                text += said(event)
    except aiohttp.ClientError as error:
        fault = f"{len(text)} characters, then {type(error).__name__}"
    complete = finished and done and not fault
    return Reply((model, prompt), adapter, engine, text, complete, began, time.monotonic(), pause, fault)


def code_of(body: dict[str, Any]) -> str:
    """The code in an error's body."""
    return str((body.get("error") or {}).get("code"))


def finishes(event: dict[str, Any]) -> bool:
    """Whether the event gives the reason for which a reply ended."""
    return any(choice.get("finish_reason") for choice in event.get("choices", []))


class Streams:
    """So many streams, some at once, prompts and models in turn."""

    def __init__(self, at: Stage, count: int, at_once: int) -> None:
        asked = itertools.cycle(itertools.product((f"heed:{at.adapters[0]}", "heed:base"), PROMPTS))
        self.left = [next(asked) for _ in range(count)]
        self._at, self._at_once = at, at_once
        self.replies: list[Reply] = []

    async def run(self) -> None:
        """Until all have ended."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            await asyncio.gather(*(self._client(http) for _ in range(self._at_once)))

    async def _client(self, http: aiohttp.ClientSession) -> None:
        while self.left:
            model, prompt = self.left.pop()
            self.replies.append(await ask(http, self._at.url, model, prompt))


Alone = dict[tuple[str, str], str]


async def speaking_alone(at: Stage) -> Alone:
    """What each prompt is answered when nobody else asks."""
    alone = {}
    async with aiohttp.ClientSession() as http:
        for model, prompt in itertools.product((f"heed:{at.adapters[0]}", "heed:base"), PROMPTS):
            reply = await ask(http, at.url, model, prompt)
            assert reply.complete, reply
            alone[reply.asked] = reply.text
    return alone


def judged(replies: Sequence[Reply], alone: Alone, killed: str = "", when: float = 0.0) -> Row:
    """How many ended, said the same, and were under way on the engine that was killed."""
    torn = [one for one in replies if one.engine == killed and one.began < when < one.ended]
    ended = [one for one in replies if one.complete]
    named = {one.asked[0].partition(":")[2] == one.adapter for one in ended}
    return {
        "streams": len(replies),
        "complete": sum(one.complete for one in replies),
        "same": sum(one.text == alone[one.asked] for one in replies),
        "same_adapter": named == {True},
        "faults": sorted(one.fault or "no end" for one in replies if not one.complete),
        "interrupted": len(torn),
        "longest_pause_ms": round(1000 * max((one.longest_pause for one in torn), default=0.0)),
    }


async def breaking(
    at: Stage, number: int, streams: Streams, alone: Alone, how: Callable[[MortalEngine], None]
) -> Row:
    """One round: an engine dies or hangs when some replies have ended and others have begun."""
    running = asyncio.create_task(streams.run())
    enough = random.randint(1, 3) * len(streams.left) // 5
    while len(streams.replies) < enough:
        assert not running.done(), "the streams ended before an engine was killed"
        await asyncio.sleep(0.005)
    await asyncio.sleep(random.uniform(0.0, 0.2))
    when = time.monotonic()
    how(at.engines[number])
    await running
    return judged(streams.replies, alone, f"engine-{number}", when)


def coming_back(at: Stage, number: int) -> float:
    """Start the engine again; seconds from healthy until it lists the adapter, by its own word. Returns once the
    gateway has proved it there.
    """
    at.engines[number].start()
    at.engines[number].wait()
    healthy = time.monotonic()
    models = f"{at.engines[number].url}/v1/models"
    while at.adapters[0] not in listed(models):
        assert time.monotonic() - healthy < 60, "the engine that came back was not given its adapter"
        time.sleep(0.02)
    back = time.monotonic() - healthy
    wait_until(lambda: holds(at, number), 60, "the adapter's proof on the engine that came back")
    return round(back, 2)


def listed(models_url: str) -> set[str]:
    """The models that an engine answers to."""
    with urllib.request.urlopen(models_url, timeout=5) as reply:
        return {model["id"] for model in json.load(reply)["data"]}


def measure(at: Stage, told: argparse.Namespace) -> list[Row]:
    """The control, then the rounds."""

    def streams() -> Streams:
        return Streams(at, told.streams, told.at_once)

    alone = asyncio.run(speaking_alone(at))
    calm = streams()
    asyncio.run(calm.run())
    rows = [{"killed": "none", **judged(calm.replies, alone)}]
    print(rows[-1], file=sys.stderr, flush=True)
    turns = told.rounds + told.hangs
    for turn in range(turns):
        number, kills = turn % 2, turn < told.rounds
        how = MortalEngine.kill if kills else MortalEngine.hang
        row = asyncio.run(breaking(at, number, streams(), alone, how))
        if not kills:
            at.engines[number].kill()
        if kills or turn + 1 < turns:
            row["adapter_back_seconds"] = coming_back(at, number)
        rows.append({"killed" if kills else "hung": f"engine-{number}", **row})
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def run(arguments: Sequence[str]) -> list[Row]:
    """Parse and measure; a row a round."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--hangs", type=int, default=1, help="rounds in which a core hangs")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=16)
    told = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder), 1, engines=2) as at:
        return measure(at, told)


def figures(rows: Sequence[Row]) -> list[Figure]:
    """Over all rounds in which an engine was killed."""
    calm = next(row for row in rows if row.get("killed") == "none")
    killed = [row for row in rows if row.get("killed", "none") != "none"]
    hung = [row for row in rows if "hung" in row]
    names = ("streams", "complete", "same", "interrupted")
    total, stalled = ({name: sum(row[name] for row in some) for name in names} for some in (killed, hung))
    lines = [
        Figure(
            f"engine killed in {calm['streams']} greedy streams, {len(killed)} times: complete; same text",
            f"{total['complete']} of {total['streams']}; {total['same']}",
            f"{total['interrupted']} were coming from it, held up {max(row['longest_pause_ms'] for row in killed)} ms "
            f"at most; without a kill {calm['same']} of {calm['streams']} are the same",
        ),
        Figure(
            "engine restarted: healthy → its adapter is back (bar 5 s)",
            f"{max(row['adapter_back_seconds'] for row in killed):.1f} s",
            "vLLM alone forgets it",
        ),
    ]
    if hung:
        lines.append(
            Figure(
                "an engine's core hangs and its health stays good: complete; same text",
                f"{stalled['complete']} of {stalled['streams']}; {stalled['same']}",
                f"{stalled['interrupted']} were coming from it, held up "
                f"{max(row['longest_pause_ms'] for row in hung) / 1000:.0f} s at most (HEED_ENGINE_STALL_SECONDS is "
                f"{PATIENCE_SECONDS:.0f})",
            )
        )
    return lines


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped
    for result in run(sys.argv[1:]):
        print(json.dumps(result))
