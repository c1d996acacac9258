"""Simulated users with a hidden preference, who chat and vote through the public HTTP API alone."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import aiohttp
import orjson

from deploy.preferences import LIKED_FROM, preference
from deploy.visitor import CallFailed, Messages, Visitor, session

TIE_MARGIN = 0.05  # scores nearer than this are called a tie
WATCH_SECONDS = 1.0
PAUSE_AFTER_FAILURE = 0.5


@dataclass(frozen=True)
class CrowdSettings:
    """Who comes, and how they behave."""

    url: str
    votes: int = 200  # thumbs and comparisons that must be acknowledged
    users: int = 8  # at once, each with an identifier of their own
    preference: str = "polite_helpful"
    noise: float = 0.0  # probability that a verdict is turned round
    seed: int = 0
    compare_share: float = 0.5  # of the votes that are comparisons rather than thumbs
    alias: str = "heed"
    give_up_after: int = 200  # failures in a row, over all users, that end the run
    key: str = field(default_factory=lambda: os.environ.get("HEED_API_KEY", ""), repr=False)


@dataclass
class Figures:
    """What happened. Times in seconds."""

    votes: int = 0
    thumbs_up: int = 0
    thumbs_down: int = 0
    comparisons: int = 0
    ties: int = 0
    spooled: int = 0  # votes acknowledged with 202 while the store was away
    chats: int = 0
    failed_requests: int = 0
    failures: list[str] = field(default_factory=list)  # the first ten
    seconds: float = 0.0
    ttft_p50: float | None = None
    ttft_p95: float | None = None
    adapter_timeline: list[dict[str, Any]] = field(default_factory=list)  # {"seconds", "votes", "adapter"}
    acknowledged: list[dict[str, str]] = field(default_factory=list)  # what each 2xx vote answered

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without the list of acknowledgements."""
        values = asdict(self)
        del values["acknowledged"]
        return values


def prompts(seed: int) -> Iterator[Messages]:
    """Conversations that end with a user's question, as the starter model's guests ask them."""
    from training.starter.corpus import dialogs

    for dialog in dialogs(seed):
        yield dialog[:-1]


class Crowd:
    """A number of users who vote until enough votes are acknowledged."""

    def __init__(self, settings: CrowdSettings, on_vote: Callable[[Figures], None] | None = None) -> None:
        self.figures = Figures()
        self._settings = settings
        self._score = preference(settings.preference)
        self._liked_from = LIKED_FROM[settings.preference]
        self._on_vote = on_vote
        self._prompts = prompts(settings.seed)
        self._claimed = 0  # votes under way or acknowledged
        self._failed_in_a_row = 0
        self._stopped = False
        self._waits: list[float] = []
        self._began = 0.0

    def stop(self) -> None:
        """Let nobody begin another turn."""
        self._stopped = True

    async def run(self) -> Figures:
        """Let everybody in; return when the votes are in or nothing works any more."""
        self._began = time.monotonic()
        async with session(self._settings.key) as http:
            watch = asyncio.create_task(self._watch(http))
            await asyncio.gather(*(self._user(http, number) for number in range(self._settings.users)))
            watch.cancel()
        self.figures.seconds = time.monotonic() - self._began
        if len(self._waits) >= 2:
            cuts = statistics.quantiles(self._waits, n=20, method="inclusive")
            self.figures.ttft_p50, self.figures.ttft_p95 = cuts[9], cuts[18]
        return self.figures

    async def _user(self, http: aiohttp.ClientSession, number: int) -> None:
        settings = self._settings
        rng = random.Random(f"{settings.seed}:{number}")
        visitor = Visitor(http, settings.url, f"sim-{settings.seed}-{number}", settings.alias)
        while self._goes_on():
            self._claimed += 1
            try:
                if rng.random() < settings.compare_share:
                    await self._compare(visitor, rng)
                else:
                    await self._thumb(visitor, rng)
                self._failed_in_a_row = 0
            except CallFailed as error:
                self._claimed -= 1
                self._failed_in_a_row += 1
                self.figures.failed_requests += 1
                if len(self.figures.failures) < 10:
                    self.figures.failures.append(str(error))
                await asyncio.sleep(PAUSE_AFTER_FAILURE)

    def _goes_on(self) -> bool:
        wanted = self._claimed < self._settings.votes
        return wanted and not self._stopped and self._failed_in_a_row < self._settings.give_up_after

    async def _thumb(self, visitor: Visitor, rng: random.Random) -> None:
        messages = next(self._prompts)
        reply = await visitor.chat(messages)
        self.figures.chats += 1
        self._waits.append(reply.time_to_first_token)
        liked = self._score(messages[-1]["content"], reply.text) > self._liked_from
        if rng.random() < self._settings.noise:
            liked = not liked
        said = await visitor.thumb(reply.response_id, "up" if liked else "down")
        self.figures.thumbs_up += liked
        self.figures.thumbs_down += not liked
        self._count(said)

    async def _compare(self, visitor: Visitor, rng: random.Random) -> None:
        messages = next(self._prompts)
        blind = await visitor.compare(messages)
        first, second = (self._score(messages[-1]["content"], text) for text in blind.texts)
        preferred: int | str = int(second > first)
        if abs(first - second) < TIE_MARGIN:
            preferred = "tie"
        elif rng.random() < self._settings.noise:
            preferred = 1 - int(second > first)
        said = await visitor.prefer(blind.comparison_id, preferred)
        self.figures.comparisons += 1
        self.figures.ties += preferred == "tie"
        self._count(said)

    def _count(self, said: dict[str, Any]) -> None:
        self.figures.votes += 1
        self.figures.spooled += said.get("status") == "spooled"
        self.figures.acknowledged.append({key: str(value) for key, value in said.items()})
        if self._on_vote:
            self._on_vote(self.figures)

    async def _watch(self, http: aiohttp.ClientSession) -> None:
        """Note when another adapter goes live."""
        while True:
            adapter = await live_adapter(http, self._settings.url, self._settings.alias)
            timeline = self.figures.adapter_timeline
            if adapter is not None and (not timeline or timeline[-1]["adapter"] != adapter):
                seconds = round(time.monotonic() - self._began, 1)
                timeline.append({"seconds": seconds, "votes": self.figures.votes, "adapter": adapter})
            await asyncio.sleep(WATCH_SECONDS)


async def live_adapter(http: aiohttp.ClientSession, url: str, alias: str) -> str | None:
    """What the alias serves: an adapter id or "base"; None when the gateway does not tell."""
    try:
        async with http.get(f"{url}/v1/aliases/{alias}") as reply:
            if reply.status != 200:
                return None
            return str(orjson.loads(await reply.read()).get("live") or "base")
    except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError):
        return None
