"""How soon a change is everywhere: publish to traffic, rollback, and an engine that was killed.

    python -m benchmarks.changes --times 20 --restarts 2

Two real gateway processes share a real Valkey and a real float32 vLLM engine, and clients stream through both without
a pause. *Publish*: from the registry's record of an adapter that no engine has loaded, promoted in the next call, to
the moment from which every new request to that gateway is answered by it. *Rollback*: from the call that rolls back
to the same. *Restart*: from the moment the killed engine is healthy again to its live adapter ready on it, and which
adapter its first reply is by. All are measured on each gateway by itself, by clients that ask for one token and ask
again at once. A change lies between the last request that was answered by the adapter before and the first after
which none was: *publish* is the latter, and of *rollback* both are told.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from benchmarks.results import Figure, Row, parser_of, percentile
from benchmarks.stage import Stage, published, stage
from benchmarks.swaps import Load
from feedback.memory import MemoryRegistry
from feedback.registry import RedisRegistry
from feedback.store import connect

DESCRIPTION = "publish to traffic, rollback and engine restart, on each of two gateways"
GATEWAYS, STREAMS, ASKERS = 2, 4, 2  # askers per gateway
LONGEST = 60.0  # seconds to wait for a change
CALM_SECONDS = 0.5  # of nothing but the new adapter, before a change counts as done


@dataclass(frozen=True)
class Asked:
    """One request of one token. ``at``: monotonic seconds when it was sent."""

    at: float
    status: int
    adapter: str


class Asker:
    """Asks one gateway for the alias, again and again, and notes who answers."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session, self.url = session, url
        self.asked: list[Asked] = []

    async def run(self) -> None:
        """Until cancelled."""
        body = {"model": "heed", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        while True:
            at, status, adapter = time.monotonic(), 599, ""
            try:
                call = self.session.post(
                    f"{self.url}/v1/chat/completions", json=body, headers={"Heed-Debug": "1"}
                )
                async with call as answer:
                    await answer.read()
                    status, adapter = answer.status, answer.headers.get("Heed-Adapter", "")
            except aiohttp.ClientError:
                pass
            self.asked.append(Asked(at, status, adapter))
            await asyncio.sleep(0.005 if status == 200 else 0.02)


def settled(asked: Sequence[Asked], adapter: str, since: float) -> tuple[float, float] | None:
    """Seconds from ``since`` to the last request that was answered otherwise, 0 when none was, and to the first
    after which all were answered by ``adapter``; None while the newest was not.
    """
    after = sorted((one for one in asked if one.at >= since), key=lambda one: one.at)
    if not after or after[-1].adapter != adapter:
        return None
    first = after[-1].at
    for one in reversed(after):
        if (one.status, one.adapter) != (200, adapter):
            return one.at - since, first - since
        first = one.at
    return 0.0, first - since


async def on_each(askers: Sequence[Sequence[Asker]], adapter: str, since: float) -> list[tuple[float, float]]:
    """What ``settled`` says of each gateway once it answers by nothing but ``adapter``."""
    while True:
        await asyncio.sleep(CALM_SECONDS)
        took = [settled([one for asker in at for one in asker.asked], adapter, since) for at in askers]
        calm = time.monotonic() - CALM_SECONDS / 2
        if all(one is not None and since + one[1] < calm for one in took):
            return [one for one in took if one is not None]
        assert time.monotonic() - since < LONGEST, f"{adapter} does not answer everywhere: {took}"


async def change(
    askers: Sequence[Sequence[Asker]], adapter: str, what: str, make: Callable[[], object]
) -> list[Row]:
    """Make a change in the registry; a row for each gateway, of the seconds until it was in force there."""
    since = time.monotonic()
    await asyncio.to_thread(make)
    took = await on_each(askers, adapter, since)
    return [{"what": what, "last_other": round(last, 4), "seconds": round(first, 4)} for last, first in took]


async def restarted(at: Stage, askers: Sequence[Sequence[Asker]], live: str) -> list[Row]:
    """Kill the engine and start it again; a row for each gateway."""
    (engine,) = at.engines
    engine.kill()
    killed = time.monotonic()
    engine.start()
    await asyncio.to_thread(engine.wait)
    healthy = time.monotonic()
    await on_each(askers, live, healthy)
    rows: list[Row] = []
    for asker in askers:
        asked = sorted(
            (one for each in asker for one in each.asked if one.at > killed), key=lambda one: one.at
        )
        answered = [one for one in asked if one.status == 200]
        rows.append(
            {
                "what": "restart",
                "seconds": round(max(0.0, answered[0].at - healthy), 4),
                "by_live": answered[0].adapter == live,
                "others": sum(one.adapter != live for one in answered),
            }
        )
    return rows


async def measure(at: Stage, times: int, restarts: int) -> list[Row]:
    """Publish and roll back in turn, then kill the engine; a row for each change and gateway."""
    registry = RedisRegistry(connect(at.redis_url))
    records = await asyncio.to_thread(published, MemoryRegistry(), at.data_dir, times + 1)
    rows: list[Row] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        askers = [[Asker(session, url) for _ in range(ASKERS)] for url in at.urls]
        loads = [Load(session, url, ["heed"]) for url in at.urls]
        asking = [asyncio.create_task(asker.run()) for each in askers for asker in each]
        streaming = [asyncio.create_task(load.run(STREAMS // GATEWAYS)) for load in loads]
        first = records[0].id

        def publish(number: int) -> None:
            registry.add_adapter(records[number])
            registry.promote("heed", records[number].id, "benchmark")

        await change(askers, first, "first", partial(publish, 0))
        for number in range(1, times + 1):
            new = records[number].id
            rows += await change(askers, new, "publish", partial(publish, number))
            back = partial(registry.rollback, "heed", "benchmark")
            rows += await change(askers, first, "rollback", back)
        for load in loads:
            load.stopping = True
        await asyncio.gather(*streaming)
        failed = sum(one.status != 200 for each in askers for asker in each for one in asker.asked)
        failed += sum(heard.status != 200 for load in loads for heard in load.replies)
        asked = sum(len(asker.asked) for each in askers for asker in each)
        rows.append(
            {"what": "requests", "failed": failed, "of": asked + sum(len(load.replies) for load in loads)}
        )
        for _ in range(restarts):
            rows += await restarted(at, askers, first)
        for task in asking:
            task.cancel()
    return rows


def run(arguments: Sequence[str]) -> list[Row]:
    """Parse and measure."""
    parser = parser_of(__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--restarts", type=int, default=2)
    told = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder), gateways=GATEWAYS) as at:
        return asyncio.run(measure(at, told.times, told.restarts))


def figures(rows: Sequence[Row]) -> list[Figure]:
    """Medians, the worst of twenty, and what failed meanwhile."""

    def seconds(what: str) -> list[float]:
        return [row["seconds"] for row in rows if row["what"] == what]

    (requests,) = [row for row in rows if row["what"] == "requests"]
    back = [row for row in rows if row["what"] == "restart"]
    published, rolled = seconds("publish"), seconds("rollback")
    last: list[float] = [
        row["last_other"] if "last_other" in row else row["seconds"]
        for row in rows
        if row["what"] == "rollback"
    ]
    return [
        Figure(
            "adapter published and promoted to all new requests answered by it, on each of 2 gateways, p50 (p95)",
            f"{percentile(published, 0.5):.2f} ({percentile(published, 0.95):.2f}) s",
            f"{len(published) // GATEWAYS} times; {requests['failed']} of {requests['of']} requests failed meanwhile",
        ),
        Figure(
            "rollback to the last request that the adapter left still answered, on each of 2 gateways, p50 (longest)",
            f"{1000 * percentile(last, 0.5):.0f} ({1000 * max(last):.0f}) ms",
            f"{len(rolled) // GATEWAYS} times; to the first after which none was: "
            f"{1000 * percentile(rolled, 0.5):.0f} ({1000 * max(rolled):.0f}) ms",
        ),
        Figure(
            "killed engine healthy again to its first reply, by its live adapter, longest",
            f"{max(seconds('restart')):.1f} s",
            f"{sum(row['by_live'] for row in back)} of {len(back)} first replies by it, "
            f"{sum(row['others'] for row in back)} later ones by another",
        ),
    ]


if __name__ == "__main__":
    for result in run(sys.argv[1:]):
        print(json.dumps(result))
