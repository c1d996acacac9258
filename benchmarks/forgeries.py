"""Votes under ids that were never given to their sender: how many get through, and what the refusals give away.

    python -m benchmarks.forgeries --requests 100000

A real gateway with two keys, a real Valkey. Of each kind as many requests, in random order, over every route that takes
an id: random bytes in an id's form, genuine ids with one letter changed, junk, a genuine id sent by another user, under
another key, of the other kind (a comparison's for a response's), signed with a key that is not ours, past its life, and
genuine votes sent again. Accepted is what added an event to the log. The times of refused votes are compared by the
largest distance of their distributions (Kolmogorov and Smirnov's), beside that of two halves of one kind: the noise.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import secrets
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from benchmarks.results import Figure, Row, parser_of, percentile
from feedback import keys
from feedback.ids import Secrets, mint_comparison, mint_response, subject_of
from feedback.protocols import KeyRecord
from feedback.registry import RedisRegistry
from feedback.store import connect
from serve.auth import digest_of
from tests.servers import gateway_server, valkey_server

DESCRIPTION = "forged, foreign, expired and replayed ids: accepted, and what the refusals give away"
OURS, THEIRS = "key-of-one-team", "key-of-another-team"
CLIENTS, WARM, KEPT_USERS = 4, 500, 50
UNKNOWN = (
    "random",
    "changed",
    "junk",
    "other user",
    "other key",
    "other kind",
    "other signer",
    "expired, other user",
)
OTHERS = ("expired", "replayed")
FEEDBACK = "POST /v1/feedback"


@dataclass
class Seen:
    """What came back."""

    statuses: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # by kind
    bodies: dict[str, set[bytes]] = field(
        default_factory=lambda: defaultdict(set)
    )  # of unknown ids, by route
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # of votes, by kind
    sent: int = 0


class Forger:
    """Makes ids of every kind."""

    def __init__(self, ours: Secrets, life_seconds: float) -> None:
        self._ours, self._strange = ours, Secrets((secrets.token_bytes(32),))
        self._life = life_seconds
        self._makers: dict[str, Callable[[str], str]] = {
            "random": lambda _: "chatcmpl-" + base64.urlsafe_b64encode(secrets.token_bytes(33)).decode(),
            "changed": lambda user: changed(self.genuine(user)),
            "junk": lambda _: secrets.token_urlsafe(random.choice((3, 20, 33, 60))),
            "other user": lambda user: self.genuine(f"{user}-too"),
            "other key": lambda user: mint_response(
                self._ours, self.subject(user, "k-theirs"), now=time.time()
            ),
            "other kind": lambda user: mint_comparison(self._ours, self.subject(user), now=time.time()),
            "other signer": lambda user: mint_response(self._strange, self.subject(user), now=time.time()),
            "expired, other user": lambda user: self._old(f"{user}-too"),
            "expired": self._old,
        }

    def subject(self, user: str, key: str = "k-ours") -> str:
        return subject_of(self._ours, key, f"user:{user}")

    def genuine(self, user: str) -> str:
        return mint_response(self._ours, self.subject(user), now=time.time())

    def _old(self, user: str) -> str:
        return mint_response(self._ours, self.subject(user), now=time.time() - self._life - 60)

    def make(self, kind: str, user: str) -> str:
        return self._makers[kind](user)


def changed(signed: str) -> str:
    """One letter is another."""
    place = random.randrange(len("chatcmpl-"), len(signed))
    letter = random.choice([one for one in "ABCDEFGHabcdefgh0123" if one != signed[place]])
    return signed[:place] + letter + signed[place + 1 :]


def asked(route: str, name: str, user: str) -> tuple[str, str, Any]:
    """Method, target and body of a request about an id."""
    method, path = route.split()
    if "{id}" in path:
        return method, f"{path.replace('{id}', name)}?user={user}", None
    bodies: dict[str, dict[str, Any]] = {
        "/v1/feedback": {"response_id": name, "rating": "up"},
        "/v1/comparisons": {"ranking": [[name], ["chatcmpl-x"]]},
        "/v1/labels": {"response_id": name, "labels": {"helpful": 1.0}},
        "/v1/reports": {"response_id": name, "kind": "unsafe"},
    }
    return method, path, {**bodies[path], "user": user}


ROUTES = (
    FEEDBACK, "POST /v1/comparisons", "POST /v1/labels", "POST /v1/reports", "GET /v1/feedback/{id}",
    "DELETE /v1/feedback/{id}",
)  # fmt: skip


async def attack(url: str, forger: Forger, requests: int, said: Sequence[tuple[str, str]]) -> Seen:
    """``said``: votes that are in the log, as id and user."""
    seen, draw = Seen(), random.Random(1)
    every = (*UNKNOWN, *OTHERS)
    todo = [kind for kind in every for _ in range(requests // len(every))]
    draw.shuffle(todo)

    async def client(http: aiohttp.ClientSession, number: int) -> None:
        for place in range(number, len(todo), CLIENTS):
            kind = todo[place]
            user = f"user-{place % KEPT_USERS}"
            route = FEEDBACK if kind in OTHERS or place % 2 else draw.choice(ROUTES)
            name, user = draw.choice(said) if kind == "replayed" else (forger.make(kind, user), user)
            method, target, body = asked(route, name, user)
            began = time.perf_counter()
            async with http.request(method, url + target, json=body) as answer:
                told = await answer.read()
            took = time.perf_counter() - began
            seen.sent += 1
            seen.statuses[kind].add(answer.status)
            if kind in UNKNOWN:
                seen.bodies[route].add(told)
            if route == FEEDBACK and place > WARM:
                seen.seconds[kind].append(took)

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {OURS}"}) as http:
        await asyncio.gather(*(client(http, number) for number in range(CLIENTS)))
    return seen


async def say(url: str, forger: Forger, count: int) -> list[tuple[str, str]]:
    """Genuine votes; what was said, and by whom."""
    said = []
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {OURS}"}) as http:
        for number in range(count):
            user = f"user-{number % KEPT_USERS}"
            name = forger.genuine(user)
            method, target, body = asked(FEEDBACK, name, user)
            async with http.request(method, url + target, json=body) as answer:
                assert answer.status == 201, await answer.text()
            said.append((name, user))
    return said


def distance(some: Sequence[float], others: Sequence[float]) -> float:
    """Of Kolmogorov and Smirnov: the largest difference of the two cumulative distributions, 0…1."""
    points = np.sort(np.concatenate([some, others]))
    below = [np.searchsorted(np.sort(one), points, side="right") / len(one) for one in (some, others)]
    return float(np.abs(below[0] - below[1]).max())


def rows_of(seen: Seen, accepted: int) -> list[Row]:
    """One row of all, and one of each kind whose times tell."""
    half = seen.seconds[UNKNOWN[0]][::2], seen.seconds[UNKNOWN[0]][1::2]
    rows: list[Row] = [
        {
            "kind": "all",
            "requests": seen.sent,
            "accepted": accepted,
            "answers": max(len(bodies) for bodies in seen.bodies.values()),
            "statuses": {kind: sorted(codes) for kind, codes in seen.statuses.items()},
            "noise": round(distance(*half), 4),
        }
    ]
    for kind in UNKNOWN:
        times = seen.seconds[kind]
        rest = [one for other in UNKNOWN if other != kind for one in seen.seconds[other]]
        rows.append(
            {
                "kind": kind,
                "requests": len(times),
                "p50_us": round(percentile(times, 0.5) * 1e6, 1),
                "p99_us": round(percentile(times, 0.99) * 1e6, 1),
                "distance": round(distance(times, rest), 4),
            }
        )
    return rows


def run(arguments: Sequence[str]) -> list[Row]:
    """Parse and measure."""
    parser = parser_of(__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--said", type=int, default=500, help="genuine votes that are replayed")
    told = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name, valkey_server(Path(name) / "valkey") as (redis_url, _):
        client: Any = connect(redis_url)
        registry = RedisRegistry(client)
        for key_id, key in (("k-ours", OURS), ("k-theirs", THEIRS)):
            scopes = ("chat", "annotate")
            registry.put_key(KeyRecord(id=key_id, digest=digest_of(key), scopes=scopes, created=time.time()))
        settings = {"HEED_SUBJECT_RATE": "0", "HEED_RESPONSE_LIFE_SECONDS": "3600"}
        with gateway_server(Path(name), redis_url, "http://127.0.0.1:9", ready="healthz", **settings) as (
            url,
            _,
        ):
            forger = Forger(Secrets.load(Path(name) / "data" / "secret"), 3600.0)
            said = asyncio.run(say(url, forger, told.said))
            before = int(client.xlen(keys.EVENTS))
            seen = asyncio.run(attack(url, forger, told.requests, said))
            return rows_of(seen, int(client.xlen(keys.EVENTS)) - before)


def figures(rows: Sequence[Row]) -> list[Figure]:
    """What got through, and what the times tell."""
    every, kinds = rows[0], rows[1:]
    told = f"{every['answers']} answer for all unknown ids"
    p50, p99 = (sorted(row[name] for row in kinds) for name in ("p50_us", "p99_us"))
    return [
        Figure(
            "votes accepted under forged, foreign, expired and replayed ids",
            f"{every['accepted']} of {every['requests']}",
            told,
        ),
        Figure(
            "largest distance of one kind's refusal times from the others' (0…1)",
            f"{max(row['distance'] for row in kinds):.3f}",
            f"two halves of one kind: {every['noise']:.3f}; p50 {p50[0]:.0f}–{p50[-1]:.0f} µs, p99 "
            f"{p99[0]:.0f}–{p99[-1]:.0f} µs",
        ),
    ]


if __name__ == "__main__":
    for result in run(sys.argv[1:]):
        print(json.dumps(result))
