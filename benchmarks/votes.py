"""Votes a second through the gateway, each on disk before its answer, beside a bare XADD to the same store.

    python -m benchmarks.votes --seconds 10 --clients 1 32

A real Valkey with `appendfsync always`, a real engine for the responses that are voted on, a real gateway. Clients
wait for each answer before they vote again, the other way round from last time, so every vote is an event of its own.
The floor is the store alone: as many connections, each waiting for its XADD of a vote's size. Votes and XADDs are
counted in the store's log at the end.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import aiohttp
import redis.asyncio
from redis.asyncio import Redis

from benchmarks.results import Figure, Row, parser_of
from benchmarks.stage import Stage, stage
from deploy.visitor import Visitor, session
from feedback import keys

DESCRIPTION = "votes a second, each on disk before its answer, beside a bare XADD"
VOTE_BYTES = 200
FLOOR_STREAM = "bench:floor"


async def counted(clients: Sequence[Callable[[], Awaitable[None]]], seconds: float) -> tuple[int, float]:
    """How often all clients together did their work, one at a time each, and in how many seconds."""
    began, done = time.monotonic(), 0

    async def work(one: Callable[[], Awaitable[None]]) -> None:
        nonlocal done
        while time.monotonic() - began < seconds:
            await one()
            done += 1

    await asyncio.gather(*(work(one) for one in clients))
    return done, time.monotonic() - began


def voter(
    http: aiohttp.ClientSession, url: str, visitor: Visitor, response_id: str
) -> Callable[[], Awaitable[None]]:
    """Votes on one response, up and down in turn. Raises AssertionError for what was not stored."""
    ratings = itertools.cycle(("up", "down"))

    async def vote() -> None:
        body = {"response_id": response_id, "rating": next(ratings), "user": visitor.user}
        async with http.post(f"{url}/v1/feedback", json=body) as answer:
            told = await answer.json()
            assert (answer.ok, told.get("status")) == (True, "stored"), told

    return vote


async def through_gateway(at: Stage, clients: int, seconds: float) -> Row:
    """Votes a second by ``clients`` users, each on a response of their own."""
    async with session() as http, redis.asyncio.from_url(at.redis_url) as store:
        votes = []
        for number in range(clients):
            visitor = Visitor(http, at.url, f"voter-{clients}-{number}")
            reply = await visitor.chat([{"role": "user", "content": "When do you open?"}])
            votes.append(voter(http, at.url, visitor, reply.response_id))
        await asyncio.gather(*(vote() for vote in votes))
        before = await store.xlen(keys.EVENTS)
        done, took = await counted(votes, seconds)
        assert await store.xlen(keys.EVENTS) - before == done, "votes were answered that are not in the log"
    return {"way": "gateway", "clients": clients, "votes": done, "per_second": round(done / took, 1)}


async def bare_store(at: Stage, clients: int, seconds: float) -> Row:
    """XADDs a second over ``clients`` connections."""
    connections: list[Redis] = [redis.asyncio.from_url(at.redis_url) for _ in range(clients)]

    def adder(connection: Redis) -> Callable[[], Awaitable[None]]:
        async def add() -> None:
            await connection.xadd(FLOOR_STREAM, {"e": b"x" * VOTE_BYTES})

        return add

    before = await connections[0].xlen(FLOOR_STREAM)
    done, took = await counted([adder(connection) for connection in connections], seconds)
    assert await connections[0].xlen(FLOOR_STREAM) - before == done
    for connection in connections:
        await connection.aclose()
    return {"way": "bare XADD", "clients": clients, "votes": done, "per_second": round(done / took, 1)}


async def measure(at: Stage, clients: Sequence[int], seconds: float) -> list[Row]:
    """Both ways in turn for each number of clients."""
    rows = []
    for number in clients:
        rows += [await through_gateway(at, number, seconds), await bare_store(at, number, seconds)]
    return rows


def run(arguments: Sequence[str]) -> list[Row]:
    """Parse and measure; one row a way and number of clients."""
    parser = parser_of(__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--seconds", type=float, default=10.0)
    told = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, stage(Path(folder)) as at:
        return asyncio.run(measure(at, told.clients, told.seconds))


def figures(rows: Sequence[Row]) -> list[Figure]:
    """One line for each number of clients."""
    found = {(row["way"], row["clients"]): row["per_second"] for row in rows}
    return [
        Figure(
            f"votes a second, each on disk before its answer, {clients} client{'s' if clients > 1 else ''}",
            f"{found['gateway', clients]:.0f}",
            f"bare XADD, same store, asked from Python: {found['bare XADD', clients]:.0f}",
        )
        for clients in sorted({row["clients"] for row in rows})
    ]


if __name__ == "__main__":
    for result in run(sys.argv[1:]):
        print(json.dumps(result))
