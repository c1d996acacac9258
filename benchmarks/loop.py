"""The loop from outside: votes with noise in, a better adapter out, while people keep chatting.

    python -m benchmarks.loop --preference polite_helpful brief concrete --votes 400 --noise 0.2

For each hidden preference: a fresh Heed on fresh data, four users who chat all the time without being stored,
a crowd that votes, and the wait until the loop has digested the last vote. Then the live adapter's replies are
held against the base's on prompts that no training saw. Every figure is taken over the public HTTP API.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.results import Figure, Row, parser_of, percentile
from deploy.quality import evaluate, held_out
from deploy.simulate import Crowd, CrowdSettings
from deploy.visitor import CallFailed, Visitor, session
from tests.servers import answers, free_port, process, wait_until

DESCRIPTION = "400 noisy votes to a live adapter while people keep chatting, for three hidden preferences"
IDLE_SECONDS = 15.0
PAUSE_SECONDS = 0.5
"""Of a chatting user between two chats."""


@dataclass(frozen=True)
class LoopFigures:
    """What one run showed. Times in seconds."""

    preference: str
    votes: int
    noise: float
    live: str
    rounds: list[str]
    last_vote_to_live: float | None
    win_rate: float
    lower: float
    upper: float
    prompts: int
    failed_requests: int
    chats: int
    first_token_idle_p95: float
    first_token_training_p95: float


class Chatters:
    """Users who chat all the time."""

    def __init__(self, url: str, users: int = 4) -> None:
        self.url, self.users = url, users
        self.first_tokens: list[float] = []
        self.failed = 0
        self.stopping = False

    async def run(self) -> None:
        """Until ``stopping``."""
        async with session() as http:
            await asyncio.gather(
                *(self._user(Visitor(http, self.url, f"chatter-{n}"), n) for n in range(self.users))
            )

    async def _user(self, visitor: Visitor, number: int) -> None:
        prompts = held_out(64, seed=100 + number)
        turn = 0
        while not self.stopping:
            try:
                reply = await visitor.chat(prompts[turn % len(prompts)], store=False)
                self.first_tokens.append(reply.time_to_first_token)
            except CallFailed:
                self.failed += 1
            turn += 1
            await asyncio.sleep(PAUSE_SECONDS)


async def settled(
    url: str, since: float, votes: int, alias: str = "heed"
) -> tuple[dict[str, object], float | None]:
    """Wait until every vote is in a finished round and no canary runs; when the newest adapter went live. Seen twice:
    what one answer tells was not read in one moment.
    """
    live_at, live, before = None, None, False
    async with session() as http:
        while time.time() - since < 600:
            async with http.get(f"{url}/v1/loop", params={"alias": alias}) as reply:
                loop = await reply.json()
            if loop.get("live") != live:
                live, live_at = loop.get("live"), time.time() - since
            trying = loop["adapters"]["candidate"] + loop["adapters"]["canary"]
            over = loop.get("taken_votes", 0) >= votes and not loop.get("unfinished") and not trying
            if over and before:
                return loop, live_at
            before = over
            await asyncio.sleep(0.5)
    return loop, live_at


async def measure(url: str, preference: str, votes: int, noise: float, seed: int) -> LoopFigures:
    """One run against a fresh Heed."""
    chatters = Chatters(url)
    chatting = asyncio.create_task(chatters.run())
    await asyncio.sleep(IDLE_SECONDS)
    idle, chatters.first_tokens = chatters.first_tokens[len(chatters.first_tokens) // 4 :], []
    crowd = CrowdSettings(url=url, votes=votes, users=8, preference=preference, noise=noise, seed=seed)
    voted = await Crowd(crowd).run()
    since = time.time()
    chatters.first_tokens = []
    loop, live_at = await settled(url, since, votes)
    chatters.stopping = True
    await chatting
    live = str(loop.get("live") or "base")
    quality = await evaluate(url, preference, held_out(512), model=f"heed:{live}")
    history = loop.get("history") or []
    assert isinstance(history, list)
    return LoopFigures(
        preference=preference,
        votes=voted.votes,
        noise=noise,
        live=live,
        rounds=[
            f"{past['verdict']} ({past['seconds']:.0f} s): {past['reason']}" for past in reversed(history)
        ],
        last_vote_to_live=live_at if live != "base" else None,
        win_rate=quality.win_rate if live != "base" else 0.5,
        lower=quality.lower,
        upper=quality.upper,
        prompts=quality.prompts,
        failed_requests=voted.failed_requests + chatters.failed,
        chats=len(idle) + len(chatters.first_tokens),
        first_token_idle_p95=percentile(idle, 0.95),
        first_token_training_p95=percentile(chatters.first_tokens, 0.95),
    )


@contextmanager
def fresh_heed() -> Iterator[str]:
    """The address of a Heed on fresh data, ready to chat; stopped at the end."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        url, log = f"http://127.0.0.1:{port}", folder / "up.log"
        command = [sys.executable, "-m", "deploy.cli", "up", "--port", str(port)]
        with process(command, log, {"HEED_DATA_DIR": str(folder / "data")}):
            wait_until(lambda: answers(f"{url}/readyz"), 240, "Heed", log)
            yield url


def measured(preference: str, votes: int, noise: float, seed: int) -> LoopFigures:
    """Start a Heed, measure, stop it."""
    with fresh_heed() as url:
        return asyncio.run(measure(url, preference, votes, noise, seed))


def run(arguments: Sequence[str]) -> list[Row]:
    """Parse and measure; one row a preference and number of votes, each printed as it comes."""
    parser = parser_of(__doc__)
    parser.add_argument("--preference", nargs="+", default=["polite_helpful", "brief", "concrete"])
    parser.add_argument("--votes", type=int, nargs="+", default=[400])
    parser.add_argument("--noise", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args(arguments)
    rows = []
    for preference in told.preference:
        for votes in told.votes:
            rows.append(asdict(measured(preference, votes, told.noise, told.seed)))
            print(json.dumps(rows[-1]), flush=True)
    return rows


def figures(rows: Sequence[Row]) -> list[Figure]:
    """What one loop made of the votes, and of those who kept chatting, for each hidden preference."""
    lines = []
    for row in rows:
        of = f"{row['votes']} votes, {row['noise']:.0%} of them wrong, `{row['preference']}`"
        took = row["last_vote_to_live"]
        released = "nothing released" if took is None else f"live {took:.0f} s after the last vote"
        won = f"{row['win_rate']:.0%} [{row['lower']:.0%}, {row['upper']:.0%}] on {row['prompts']} prompts"
        failed = f"{row['failed_requests']} of {row['chats']} failed"
        learning, idle = (1000 * row[f"first_token_{when}_p95"] for when in ("training", "idle"))
        lines += [
            Figure(
                f"{of}: wins against the base by the hidden preference", f"{won}, {released}", "the base: 50%"
            ),
            Figure(
                f"{of}: four users chat on, first token p95 while it learns",
                f"{learning:.0f} ms, {failed}",
                f"idle: {idle:.0f} ms",
            ),
        ]
    return lines


if __name__ == "__main__":
    run(sys.argv[1:])
