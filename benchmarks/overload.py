"""Three times the capacity: how long do users of high priority wait for their first token, and what are others told?

    python -m benchmarks.overload --places 8 --reserve 0.5 --low 0.25

A real vLLM engine with the starter model, a real Valkey, a real gateway that lets ``--places`` chats at once to the
engine: those of priority normal only while fewer than the rest of ``--reserve`` are there, those of priority low only
while fewer than ``--low``. First the capacity: chats a second that clients of priority normal get, as many as they
have places, who ask without a pause. Then, in turns, three phases of the same length: *alone*, a few users of priority
high chat with pauses; *overload*, they chat on while clients of priority normal offer three times the capacity as a
Poisson stream that waits for nobody; *rollouts*, they chat on while clients of priority low ask without a pause. The
phases are short and many, so that what else the machine does falls on all of them alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from benchmarks.results import Figure, Row, parser_of
from benchmarks.stage import stage
from deploy.access_keys import Terms, create_key
from feedback.registry import RedisRegistry
from feedback.store import connect

DESCRIPTION = "3 × overload on a real engine: first tokens of high priority, and what the rest are told"
PROMPTS = ("When do you open?", "Do you have oat milk?", "Can I bring my dog?", "What is a flat white?")
USERS = 6
PAUSE_SECONDS = (0.2, 0.6)  # of a user between a reply and the next question
ROLLOUTS = 8  # clients
CAPACITY_SECONDS = 12.0
TIMED_OUT = 408
LONGEST = 30.0  # seconds; a reply that takes longer has timed out
OVERLOAD = 3.0  # of the capacity
UNBOUNDED = {"HEED_SUBJECT_RATE": "0", "HEED_SUBJECT_CHATS": "0"}  # each key stands for many people here


@dataclass
class Heard:
    """What clients of one kind were told."""

    codes: Counter[int] = field(default_factory=Counter)
    firsts: list[float] = field(default_factory=list)  # seconds to the first text of a reply
    unhonest: int = 0  # refusals without a Retry-After of at least a second

    def add(self, other: Heard) -> None:
        self.codes += other.codes
        self.firsts += other.firsts
        self.unhonest += other.unhonest


@dataclass(frozen=True)
class Client:
    """One key at the gateway."""

    http: aiohttp.ClientSession
    url: str
    key: str

    async def ask(self, heard: Heard, tokens: int) -> None:
        """One streamed chat; nobody's prompt is another's."""
        prompt = f"{random.choice(PROMPTS)} ({random.randrange(10**9)})"
        body = {"model": "heed", "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens}
        began = time.perf_counter()
        try:
            async with (
                asyncio.timeout(LONGEST),
                self.http.post(
                    f"{self.url}/v1/chat/completions",
                    json={**body, "temperature": 0, "stream": True},
                    headers={"Authorization": f"Bearer {self.key}"},
                ) as answer,
            ):
                heard.codes[answer.status] += 1
                if answer.status in (429, 503):
                    heard.unhonest += int(answer.headers.get("Retry-After", "0")) < 1
                first = True
                async for line in answer.content:
                    if first and line.startswith(b"data: {") and said(line):
                        heard.firsts.append(time.perf_counter() - began)
                        first = False
        except TimeoutError:
            heard.codes[TIMED_OUT] += 1
        except aiohttp.ClientError:
            heard.codes[599] += 1


def said(line: bytes) -> bool:
    """Whether a chunk has text."""
    choices = json.loads(line[6:]).get("choices") or [{}]
    return bool(choices[0].get("delta", {}).get("content"))


async def without_pause(client: Client, heard: Heard, until: float, tokens: int) -> None:
    """A client that asks again as soon as it is answered; refused, as soon as it was told to."""
    while time.monotonic() < until:
        before = heard.codes[200]
        await client.ask(heard, tokens)
        if heard.codes[200] == before:
            await asyncio.sleep(min(1.0, max(0.0, until - time.monotonic())))


async def with_pauses(client: Client, heard: Heard, until: float) -> None:
    """A person: reads, thinks, asks."""
    await asyncio.sleep(random.uniform(0, PAUSE_SECONDS[1]))
    while time.monotonic() < until:
        await client.ask(heard, 48)
        await asyncio.sleep(random.uniform(*PAUSE_SECONDS))


async def poisson(client: Client, heard: Heard, until: float, rate: float) -> None:
    """Chats that come whether or not others were answered, ``rate`` a second."""
    async with asyncio.TaskGroup() as group:
        while time.monotonic() < until:
            group.create_task(client.ask(heard, 48))
            await asyncio.sleep(random.expovariate(rate))


Kind = Callable[[float], Awaitable[object]]


async def phase(users: Client, seconds: float, beside: Kind | None = None) -> Heard:
    """What the users hear while ``beside`` goes on."""
    await asyncio.sleep(1.0)
    heard, until = Heard(), time.monotonic() + seconds
    work = [with_pauses(users, heard, until) for _ in range(USERS)]
    await asyncio.gather(*work, *([beside(until)] if beside else []))
    return heard


async def measure(url: str, keys: dict[str, str], told: argparse.Namespace) -> Row:
    """All phases, in turns."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        high, normal, low = (Client(http, url, keys[name]) for name in ("high", "normal", "low"))
        for _ in range(3):  # what the first chats pay for, all phases have
            await high.ask(Heard(), 48)
        busy = Heard()
        until = time.monotonic() + CAPACITY_SECONDS
        await asyncio.gather(*(without_pause(normal, busy, until, 48) for _ in range(shared(told))))
        capacity = busy.codes[200] / CAPACITY_SECONDS
        heard = {name: Heard() for name in ("alone", "overload", "rollouts", "rest", "batch")}

        async def overload(until: float) -> None:
            await poisson(normal, heard["rest"], until, OVERLOAD * capacity)

        async def rollouts(until: float) -> None:
            own = heard["batch"]
            await asyncio.gather(*(without_pause(low, own, until, 96) for _ in range(ROLLOUTS)))

        for _ in range(told.rounds):
            heard["alone"].add(await phase(high, told.seconds))
            heard["overload"].add(await phase(high, told.seconds, overload))
            heard["rollouts"].add(await phase(high, told.seconds, rollouts))
    places = {"places": told.places, "shared": shared(told), "low": max(1, int(told.low * told.places))}
    return {**places, "capacity": capacity, **{name: row(one) for name, one in heard.items()}}


def shared(told: argparse.Namespace) -> int:
    """Places that priority normal may take."""
    return max(1, int((1 - told.reserve) * told.places))


def row(heard: Heard) -> Row:
    """Counts, and seconds to the first token."""
    cuts = statistics.quantiles(heard.firsts, n=100) if len(heard.firsts) > 1 else [0.0] * 99
    return {
        "codes": {str(code): count for code, count in sorted(heard.codes.items())},
        "without_retry_after": heard.unhonest,
        "first_p50_seconds": cuts[49],
        "first_p95_seconds": cuts[94],
        "first_p99_seconds": cuts[98],
    }


def run(arguments: Sequence[str]) -> list[Row]:
    """Start the parts and measure."""
    parser = parser_of(__doc__)
    parser.add_argument("--places", type=int, default=8, help="HEED_ENGINE_CHATS")
    parser.add_argument("--reserve", type=float, default=0.5, help="HEED_HIGH_RESERVE")
    parser.add_argument("--low", type=float, default=0.25, help="HEED_LOW_SHARE")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each phase")
    parser.add_argument("--rounds", type=int, default=10)
    told = parser.parse_args(arguments)
    random.seed(told.places)
    with (
        tempfile.TemporaryDirectory() as folder,
        stage(
            Path(folder),
            settings={
                "HEED_ENGINE_CHATS": str(told.places),
                "HEED_HIGH_RESERVE": str(told.reserve),
                "HEED_LOW_SHARE": str(told.low),
                **UNBOUNDED,
            },
        ) as at,
    ):
        registry = RedisRegistry(connect(at.redis_url))
        keys = {
            name: create_key(registry, Terms(["chat"], priority=name))[1]
            for name in ("high", "normal", "low")
        }
        time.sleep(1.0)
        return [asyncio.run(measure(at.url, keys, told))]


def figures(rows: Sequence[Row]) -> list[Figure]:
    """The first tokens of high priority beside those without load, and what the rest were told."""
    (found,) = rows
    alone = found["alone"]["first_p99_seconds"]

    def against(name: str) -> str:
        first = found[name]["first_p99_seconds"]
        return f"{1000 * first:.0f} ms = {first / alone:.2f} ×"

    def counted(name: str) -> tuple[int, int, int]:
        codes = found[name]["codes"]
        refused = codes.get("429", 0) + codes.get("503", 0)
        return codes.get("200", 0), refused, sum(codes.values()) - codes.get("200", 0) - refused

    places = f"{found['places']} places on the engine, {found['shared']} for priority normal"
    served, refused, wrong = counted("overload")
    rest_served, rest_refused, rest_wrong = counted("rest")
    batch, _, _ = counted("batch")
    return [
        Figure(
            f"first token of high-priority users at 3 × the capacity, p99 ({places})",
            f"{against('overload')}; {refused + wrong} of {served + refused + wrong} not served",
            f"without load: {1000 * alone:.0f} ms",
        ),
        Figure(
            "the rest at 3 × the capacity",
            f"{rest_served} served, {rest_refused} told 429 or 503 with Retry-After, {rest_wrong} else",
            f"capacity {found['capacity']:.1f} chats a second; first token of those served, "
            f"p99 {1000 * found['rest']['first_p99_seconds']:.0f} ms",
        ),
        Figure(
            f"first token of the users beside rollouts of priority low, p99 (low may take {found['low']})",
            against("rollouts"),
            f"without load: {1000 * alone:.0f} ms; {batch} rollouts served",
        ),
    ]


if __name__ == "__main__":
    for result in run(sys.argv[1:]):
        print(json.dumps(result, indent=1))
