"""Clients leave in the midst of a reply: how soon does the engine stop making it?

    python -m benchmarks.disconnects --clients 100

Twice. In front of an engine that costs nothing and writes 50 events a second, a hundred clients of each gateway close
their connection at a random moment; the engine notes when it learns of each. Then in front of a real vLLM engine:
from the client's close until vLLM's own count of running requests is back, read from its metrics as fast as it
answers. A second request runs there all the time, because an idle engine does not renew its figures.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.gateway import about, standing
from benchmarks.results import Figure, Row, parser_of, percentile
from benchmarks.stage import Stage, stage
from benchmarks.wire.answer import Target, request
from benchmarks.wire.peers import PEERS
from benchmarks.wire.targets import write

DESCRIPTION = "clients leave in the midst of a reply: how soon the engine stops"
TARGETS = ("heed", *PEERS)
AT_ONCE = 10
WORDS = 1000  # of a reply, at 50 a second: 20 s
NOTICED_WITHIN = 25.0  # longer than a reply: what is not noticed by then was made to its end
ENDLESS = {"max_tokens": 900, "logit_bias": {"2": -100}}  # 2 ends a reply of the starter model
PROMPT = [{"role": "user", "content": "Tell me about your coffee."}]


async def leave(target: Target, user: str, after: float) -> tuple[str, float]:
    """Begin a reply, leave it ``after`` seconds; its id, and the monotonic time of leaving."""
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(request(target, user=user, max_tokens=WORDS))
    seen = b""
    while (found := re.search(rb'"id": ?"chatcmpl-([^"]+)"', seen)) is None:
        data = await reader.read(65536)
        assert data, f"{target.name} closed a stream that had not begun"
        seen += data
    try:
        async with asyncio.timeout(after):
            while await reader.read(65536):
                pass
    except TimeoutError:
        left = time.monotonic()
        writer.close()
        return found[1].decode(), left
    raise AssertionError(f"{target.name} ended a stream before its client left")


async def leaving(target: Target, engine: Target, clients: int) -> Row:
    """A hundred that leave; when the engine learnt of each."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> tuple[str, float]:
        async with places:
            return await leave(target, f"guest-{number}", random.uniform(0.2, 1.5))

    left = dict(await asyncio.gather(*(one(number) for number in range(clients))))
    async with aiohttp.ClientSession() as http:
        deadline = time.monotonic() + NOTICED_WITHIN
        while True:
            async with http.get(f"http://127.0.0.1:{engine.port}/left") as reply:
                learnt: dict[str, float] = await reply.json()
            if left.keys() <= learnt.keys() or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
    waits = [learnt[answer] - at for answer, at in left.items() if answer in learnt]
    return stopped({"engine": "free of cost", "target": target.name, "clients": clients}, waits)


def stopped(row: Row, waits: Sequence[float]) -> Row:
    """The row with how long the engine went on, and for how many to the end."""
    told: dict[str, float | None] = {"p50_ms": None, "p99_ms": None, "worst_ms": None}
    if waits:
        told = {
            name: round(1000 * max(0.0, percentile(waits, part)), 1)
            for name, part in (("p50_ms", 0.5), ("p99_ms", 0.99), ("worst_ms", 1.0))
        }
    return {**row, "never": row["clients"] - len(waits), **told}


@asynccontextmanager
async def streaming(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> AsyncIterator[None]:
    """A reply that has begun, is read all the time, and whose connection is closed at the end."""
    asked = {"messages": PROMPT, "stream": True, **body}
    async with http.post(f"{url}/v1/chat/completions", json=asked) as reply:
        assert reply.status == 200, await reply.text()
        await reply.content.readany()
        reading = asyncio.create_task(read_on(reply))
        try:
            yield
            assert not reading.done(), "a reply ended that was to go on"
        finally:
            reading.cancel()
            reply.close()


async def read_on(reply: aiohttp.ClientResponse) -> None:
    """Until there is nothing more."""
    while await reply.content.readany():
        pass


async def running(http: aiohttp.ClientSession, engine_url: str) -> float:
    """How many requests the engine says it is working on."""
    async with http.get(f"{engine_url}/metrics") as reply:
        return running_in(await reply.text())


def running_in(metrics: str) -> float:
    """vLLM's count of running requests."""
    (count,) = re.findall(r"^vllm:num_requests_running\{[^}]*\} (\S+)$", metrics, re.MULTILINE)
    return float(count)


async def until_running(http: aiohttp.ClientSession, engine_url: str, count: int) -> None:
    """Until the engine works on so many."""
    async with asyncio.timeout(30):
        while await running(http, engine_url) != count:
            pass


async def real(at: Stage, clients: int) -> Row:
    """One client after the other leaves; the engine goes on with another request all the while."""
    waits = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as http:
        for _ in range(clients):
            async with streaming(http, at.engine_url, {"model": "base", **ENDLESS}):
                async with streaming(http, at.url, {"model": "heed", **ENDLESS}):
                    await until_running(http, at.engine_url, 2)
                    await asyncio.sleep(random.uniform(0.0, 0.5))
                left = time.monotonic()
                await until_running(http, at.engine_url, 1)
                waits.append(time.monotonic() - left)
            await asyncio.sleep(0.1)
    return stopped({"engine": "vLLM", "target": "heed", "clients": clients}, waits)


def run(arguments: Sequence[str]) -> list[Row]:
    """Parse and measure; a row an engine and target."""
    parser = parser_of(__doc__)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--engine", choices=("free", "real", "both"), default="both")
    told = parser.parse_args(arguments)
    rows = [about(name) for name in told.targets if name in PEERS]
    absent = {row["target"] for row in rows if row["part"] == "absent"}
    if told.engine != "real":
        for name in (name for name in told.targets if name not in absent):
            with standing([name]) as (engine, (target,)):
                write(engine, "paced", 50.0)
                rows.append(asyncio.run(leaving(target, engine, told.clients)))
    if told.engine != "free":
        with tempfile.TemporaryDirectory() as folder, stage(Path(folder)) as at:
            rows.append(asyncio.run(real(at, told.clients)))
    return rows


def figures(rows: Sequence[Row]) -> list[Figure]:
    """How soon an engine stops; what the peers do."""
    lines = []
    for engine, what in (("vLLM", "a real engine"), ("free of cost", "an engine that costs nothing")):
        said = {row["target"]: shown(row) for row in rows if row.get("engine") == engine}
        if "heed" in said:
            heeds = said.pop("heed")
            beside = "; ".join(f"{name} {it}" for name, it in said.items())
            lines.append(Figure(f"client leaves → {what} stops, p50 (p99; bar 250 ms)", heeds, beside))
    return lines


def shown(row: Row) -> str:
    """One row in a few words."""
    if row["p50_ms"] is None:
        return f"never, {row['never']} of {row['clients']} replies made to the end"
    never = f", {row['never']} of {row['clients']} never" if row["never"] else ""
    return f"{row['p50_ms']:.0f} ({row['p99_ms']:.0f}) ms{never}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped
    for result in run(sys.argv[1:]):
        print(json.dumps(result))
