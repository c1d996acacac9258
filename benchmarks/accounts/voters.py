"""Clients that vote until each vote is acknowledged, whatever breaks, and remember what they were told."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import aiohttp
import orjson

from feedback.events import Rating, Response
from feedback.ids import Secrets, mint_response, subject_of
from feedback.log import RedisEventLog
from serve.auth import LOCAL_KEY

CHANGED, TAKEN_BACK = 0.1, 0.05  # shares of the votes that are followed by another
PATIENCE = 10.0  # seconds a client waits for an answer
LONGEST_REST = 0.5  # seconds after a refusal, whatever it asks for: the benchmark is to end
Saying: TypeAlias = tuple[str, Rating | None]  # response id, what was said of it


@dataclass
class Told:
    """What clients know."""

    sayings: dict[str, list[Rating | None]] = field(default_factory=dict)  # acknowledged, in order
    statuses: Counter[int] = field(default_factory=Counter)  # 0: no answer
    waits: list[float] = field(
        default_factory=list
    )  # seconds to each acknowledgement, of the try that got it
    seconds: float = 0.0

    @property
    def acknowledged(self) -> Counter[Saying]:
        return Counter((name, rating) for name, said in self.sayings.items() for rating in said)


def serve(log: RedisEventLog, secrets: Secrets, count: int) -> list[tuple[str, str]]:
    """Put ``count`` responses into the log, one each to a user of its own; their ids and users."""
    made, now = [], time.time()
    for start in range(0, count, 500):
        events = []
        for n in range(start, min(count, start + 500)):
            user = f"user-{n}"
            subject = subject_of(secrets, LOCAL_KEY, f"user:{user}")
            name = mint_response(secrets, subject, now=now)
            asked = ({"role": "user", "content": f"What is {n}?"},)
            events.append(
                Response(
                    event_id=name, response_id=name, time=now, alias="heed", adapter="base", arm="live",
                    subject=subject, messages=asked, text=f"It is {n}.",
                )
            )  # fmt: skip
            made.append((name, user))
        log.append(events)
    return made


class Voters:
    """``rate``: votes a second of all clients together."""

    def __init__(self, urls: Sequence[str], rate: float, clients: int = 64, seed: int = 0) -> None:
        self._urls, self._rate, self._clients = urls, rate, clients
        self._draw = random.Random(seed)
        self.told = Told()

    async def run(self, served: Sequence[tuple[str, str]]) -> Told:
        """Each response is voted on; returns when all is acknowledged."""
        todo, began = iter(enumerate(served)), time.monotonic()
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(timeout=timeout) as http:

            async def client() -> None:
                for number, (name, user) in todo:
                    await asyncio.sleep(began + number / self._rate - time.monotonic())
                    for rating in self._thinks():
                        await self._say(http, name, user, rating)

            await asyncio.gather(*(client() for _ in range(self._clients)))
        self.told.seconds = time.monotonic() - began
        return self.told

    def _thinks(self) -> list[Rating | None]:
        first: Rating = "up" if self._draw.random() < 0.5 else "down"
        chance = self._draw.random()
        if chance < CHANGED:
            return [first, "down" if first == "up" else "up"]
        return [first, None] if chance < CHANGED + TAKEN_BACK else [first]

    async def _say(self, http: aiohttp.ClientSession, name: str, user: str, rating: Rating | None) -> None:
        """The same words under the same key, until somebody confirms them."""
        said = self.told.sayings.setdefault(name, [])
        headers = {"Idempotency-Key": f"{name}-{len(said)}", "content-type": "application/json"}
        body = orjson.dumps({"response_id": name, "rating": rating, "user": user})
        while True:
            url, began = self._draw.choice(self._urls), time.monotonic()
            try:
                if rating is None:
                    asked = http.delete(f"{url}/v1/feedback/{name}", params={"user": user}, headers=headers)
                else:
                    asked = http.post(f"{url}/v1/feedback", data=body, headers=headers)
                async with asked as answer:
                    status = answer.status
                    await answer.read()
            except (aiohttp.ClientError, TimeoutError):
                status = 0
            self.told.statuses[status] += 1
            if status in {200, 201, 202}:
                said.append(rating)
                self.told.waits.append(time.monotonic() - began)
                return
            if status not in {0, 503}:
                raise AssertionError(f"a vote was answered {status}")
            await asyncio.sleep(LONGEST_REST * self._draw.random())
