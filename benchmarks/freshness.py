"""From votes to the adapter that learnt from them, again and again, while four users chat.

    python -m benchmarks.freshness --votes 200 --noise 0.2

One Heed, and a new product (alias) for each hidden preference, one after the other. A crowd votes so many times on its
replies as fast as it can. What counts is the time from its last vote to the moment at which the product answers all
its users with an adapter that learnt from all of the votes: batch, reward model and judge, PPO, gate, the proof on the
engine and the canary are in it. A round that could not show a gain releases nothing, and its time to that verdict
stands beside it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from benchmarks.loop import IDLE_SECONDS, Chatters, fresh_heed, settled
from benchmarks.results import Figure, Row, parser_of, percentile
from deploy.preferences import PREFERENCES
from deploy.simulate import Crowd, CrowdSettings
from deploy.visitor import session

DESCRIPTION = "200 votes on a new product, to the adapter that learnt from them, while four users chat"


@dataclass(frozen=True)
class Wave:
    """One product's votes and what came of them. Times in seconds."""

    preference: str
    votes: int
    noise: float
    voting: float  # from the first vote to the last
    live: bool  # an adapter that learnt from the last vote was released
    seconds: float  # from the last vote to that, or to the verdict
    rounds: list[str]
    failed_requests: int


async def wave(url: str, preference: str, number: int, votes: int, noise: float) -> Wave:
    """A product of its own."""
    alias = f"product-{number}"
    async with session() as http, http.post(f"{url}/v1/aliases", json={"name": alias}) as made:
        made.raise_for_status()
    crowd = CrowdSettings(
        url=url, votes=votes, users=8, preference=preference, noise=noise, seed=number, alias=alias
    )
    began = time.time()
    voted = await Crowd(crowd).run()
    since = time.time()
    loop, live_at = await settled(url, since, votes, alias)
    took, newest = time.time() - since, None
    if live := loop.get("live"):
        async with session() as http, http.get(f"{url}/v1/adapters/{live}") as reply:
            newest = (await reply.json()).get("batches")
    batch = loop.get("last_batch")
    fresh = bool(newest and isinstance(batch, dict) and batch["id"] in newest and live_at is not None)
    history = loop.get("history")
    assert isinstance(history, list)
    return Wave(
        preference=preference, votes=voted.votes, noise=noise, voting=since - began, live=fresh,
        seconds=live_at if fresh and live_at is not None else took,
        rounds=[f"{one['verdict']} ({one['seconds']:.0f} s): {one['reason']}" for one in reversed(history)],
        failed_requests=voted.failed_requests,
    )  # fmt: skip


async def measure(url: str, preferences: Sequence[str], votes: int, noise: float) -> list[Row]:
    """All waves; each row printed as it comes. The chats of those who go on chatting are the last row."""
    chatters, rows = Chatters(url), list[Row]()
    chatting = asyncio.create_task(chatters.run())
    await asyncio.sleep(IDLE_SECONDS)
    for number, preference in enumerate(preferences):
        rows.append(asdict(await wave(url, preference, number, votes, noise)))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    chatters.stopping = True
    await chatting
    return [*rows, {"chats": len(chatters.first_tokens), "failed": chatters.failed}]


def run(arguments: Sequence[str]) -> list[Row]:
    """Start a Heed, measure, stop it."""
    parser = parser_of(__doc__)
    parser.add_argument("--preference", nargs="+", default=list(PREFERENCES), choices=list(PREFERENCES))
    parser.add_argument("--votes", type=int, default=200)
    parser.add_argument("--noise", type=float, default=0.2)
    told = parser.parse_args(arguments)
    with fresh_heed() as url:
        return asyncio.run(measure(url, told.preference, told.votes, told.noise))


def figures(rows: Sequence[Row]) -> list[Figure]:
    """Of the waves that released something the 95th percentile and the median; the others beside them."""
    waves = [row for row in rows if "preference" in row]
    chats = next((row for row in rows if "chats" in row), {"chats": 0, "failed": 0})
    live = [row["seconds"] for row in waves if row["live"]]
    rest = [row["seconds"] for row in waves if not row["live"]]
    what = (
        f"{waves[0]['votes']} new votes, {waves[0]['noise']:.0%} of them wrong, to all users of a product answered by "
        "what learnt from all of them, p95 (p50; bar 120 s), while four users chat"
    )
    told = f"{percentile(live, 0.95):.0f} ({median(live):.0f}) s" if live else "nothing released"
    refused = (
        f"; {len(rest)} released nothing from the last votes, known after {max(rest):.0f} s at most"
        if rest
        else ""
    )
    failed = chats["failed"] + sum(row["failed_requests"] for row in waves)
    beside = f"{len(live)} of {len(waves)} products{refused}; {failed} of {chats['chats']} chats failed"
    return [Figure(what, told, beside)]


if __name__ == "__main__":
    for line in figures(run(sys.argv[1:])):
        print(line.what, "|", line.heed, "|", line.beside)
