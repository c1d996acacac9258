"""Votes a second through the gateway, each on disk before its answer, beside a bare XADD to the same store.

    python -m benchmarks.votes --seconds 10 --clients 1 16

A real Valkey with `appendfsync always` and a real gateway; the responses that are voted on were never served, but their
ids are genuine. Clients wait for each answer before they vote again, the other way round from last time, so every vote
is an event of its own. The floor is the store alone: as many connections, each waiting for its XADD of a vote's size.
Votes and XADDs are counted in the store's log at the end. Then the store is killed, and the same clients vote into the
spool, each on disk before its answer, too; what is spooled is counted.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import redis.asyncio
from redis.asyncio import Redis

from benchmarks.results import Figure, Row, parser_of, percentile
from feedback import keys
from feedback.ids import Secrets, mint_response, subject_of
from feedback.spool import Spool
from serve.auth import LOCAL_KEY
from tests.servers import gateway_server, stop_group, valkey_server

DESCRIPTION = "votes a second, each on disk before its answer, beside a bare XADD"
VOTE_BYTES = 200
FLOOR_STREAM = "bench:floor"


@dataclass(frozen=True)
class Place:
    """Where the parts are."""

    url: str
    redis_url: str
    data: Path


async def counted(
    clients: Sequence[Callable[[], Awaitable[None]]], seconds: float
) -> tuple[list[float], float]:
    """How long each piece of work took, one at a time for each client, and in how many seconds all were done."""
    began, waits = time.monotonic(), []

    async def work(one: Callable[[], Awaitable[None]]) -> None:
        while (begun := time.monotonic()) - began < seconds:
            await one()
            waits.append(time.monotonic() - begun)

    await asyncio.gather(*(work(one) for one in clients))
    return waits, time.monotonic() - began


def voter(http: aiohttp.ClientSession, at: Place, user: str, status: str) -> Callable[[], Awaitable[None]]:
    """Votes on one response, up and down in turn. Raises AssertionError for what did not become ``status``."""
    secrets = Secrets.load(at.data / "secret")
    name = mint_response(secrets, subject_of(secrets, LOCAL_KEY, f"user:{user}"), now=time.time())
    ratings = itertools.cycle(("up", "down"))

    async def vote() -> None:
        body = {"response_id": name, "rating": next(ratings), "user": user}
        async with http.post(f"{at.url}/v1/feedback", json=body) as answer:
            told = await answer.json()
            assert (answer.ok, told.get("status")) == (True, status), told

    return vote


def row(way: str, clients: int, waits: list[float], took: float) -> Row:
    return {
        "way": way,
        "clients": clients,
        "votes": len(waits),
        "per_second": round(len(waits) / took, 1),
        "p50_ms": round(percentile(waits, 0.5) * 1000, 1),
        "p99_ms": round(percentile(waits, 0.99) * 1000, 1),
    }


async def through_gateway(at: Place, clients: int, seconds: float) -> Row:
    """Votes a second by ``clients`` users, each on a response of their own."""
    async with aiohttp.ClientSession() as http, redis.asyncio.from_url(at.redis_url) as store:
        votes = [voter(http, at, f"voter-{clients}-{number}", "stored") for number in range(clients)]
        await asyncio.gather(*(vote() for vote in votes))
        before = await store.xlen(keys.EVENTS)
        waits, took = await counted(votes, seconds)
        assert await store.xlen(keys.EVENTS) - before == len(waits), (
            "votes were answered that are not in the log"
        )
    return row("gateway", clients, waits, took)


async def into_the_spool(at: Place, clients: int, seconds: float) -> Row:
    """The same while the store is gone."""
    async with aiohttp.ClientSession() as http:
        votes = [voter(http, at, f"away-{clients}-{number}", "spooled") for number in range(clients)]
        await asyncio.gather(*(vote() for vote in votes))
        before = Spool(at.data / "spool").pending()
        waits, took = await counted(votes, seconds)
        assert Spool(at.data / "spool").pending() - before == len(waits), (
            "votes were answered that are not spooled"
        )
    return row("gateway, store away", clients, waits, took)


async def bare_store(at: Place, clients: int, seconds: float) -> Row:
    """XADDs a second over ``clients`` connections."""
    connections: list[Redis] = [redis.asyncio.from_url(at.redis_url) for _ in range(clients)]

    def adder(connection: Redis) -> Callable[[], Awaitable[None]]:
        async def add() -> None:
            await connection.xadd(FLOOR_STREAM, {"e": b"x" * VOTE_BYTES})

        return add

    before = await connections[0].xlen(FLOOR_STREAM)
    waits, took = await counted([adder(connection) for connection in connections], seconds)
    assert await connections[0].xlen(FLOOR_STREAM) - before == len(waits)
    for connection in connections:
        await connection.aclose()
    return row("bare XADD", clients, waits, took)


async def measure(at: Place, clients: Sequence[int], seconds: float) -> list[Row]:
    """Both ways in turn for each number of clients."""
    rows = []
    for number in clients:
        rows += [await through_gateway(at, number, seconds), await bare_store(at, number, seconds)]
    return rows


def run(arguments: Sequence[str]) -> list[Row]:
    """Parse and measure; one row a way and number of clients."""
    parser = parser_of(__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--seconds", type=float, default=10.0)
    told = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            valkey_server(folder / "valkey") as (redis_url, server),
            gateway_server(folder, redis_url, "http://127.0.0.1:9", ready="healthz") as (url, _),
        ):
            at = Place(url, redis_url, folder / "data")
            rows = asyncio.run(measure(at, told.clients, told.seconds))
            stop_group(server, 0.0)
            return [*rows, asyncio.run(into_the_spool(at, max(told.clients), told.seconds))]


def figures(rows: Sequence[Row]) -> list[Figure]:
    """One line for each number of clients, and one without the store."""
    found = {(row["way"], row["clients"]): row for row in rows}

    def told(row: Row) -> str:
        return f"{row['per_second']:.0f}" + (f", p99 {row['p99_ms']:.0f} ms" if "p99_ms" in row else "")

    said = [
        Figure(
            f"votes a second, each on disk before its answer, {clients} client{'s' if clients > 1 else ''}",
            told(found["gateway", clients]),
            f"bare XADD, same store, asked from Python: {found['bare XADD', clients]['per_second']:.0f}",
        )
        for clients in sorted({row["clients"] for row in rows})
    ]
    away = [row for row in rows if row["way"] == "gateway, store away"]
    return said + [
        Figure(f"the same into the spool while Redis is away, {row['clients']} clients", told(row))
        for row in away
    ]


if __name__ == "__main__":
    for result in run(sys.argv[1:]):
        print(json.dumps(result))
