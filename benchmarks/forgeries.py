"""Votes under ids that were never given to their sender: how many get through, and what the refusals give away.

    python -m benchmarks.forgeries --requests 100000

A real gateway with two keys, a real Valkey. Of each kind as many requests, in random order, over every route that takes
an id: random bytes in an id's form, genuine ids with one letter changed, junk, a genuine id sent by another user, under
another key, of the other kind (a comparison's for a response's and the other way round), signed with a key that is not
ours, past its life, one that a rater of the annotation queue was offered sent by another rater, and genuine ids sent
again. They come as votes, as comparisons, and as rankings in which the forged id stands beside one of the sender's own.
Accepted is what added an event to the log. The times of refusals are compared form by form, by the largest distance of
their distributions (Kolmogorov and Smirnov's), beside that of as many kinds drawn by lot: the noise.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import numpy as np
from numpy.typing import NDArray

from benchmarks.results import Figure, Row, parser_of, percentile
from feedback import keys
from feedback.ids import COMPARISON, RESPONSE, Secrets, mint_comparison, mint_response, subject_of
from feedback.protocols import AliasRecord, KeyRecord
from feedback.rating import Item, Option, item_id
from feedback.rating_queue import RedisRatingQueue
from feedback.registry import RedisRegistry
from feedback.store import connect
from serve.auth import digest_of
from tests.servers import gateway_server, valkey_server

DESCRIPTION = "forged, foreign, expired and replayed ids: accepted, and what the refusals give away"
OURS, THEIRS = "key-of-one-team", "key-of-another-team"
ALIAS = "heed"
CLIENTS, WARM, KEPT_USERS = 4, 500, 50
RATERS = 20  # who are offered items, each of them one pair and one to rank
UNKNOWN = (
    "random",
    "changed",
    "junk",
    "other user",
    "other key",
    "other kind",
    "other signer",
    "expired, other user",
    "other rater",
)
OTHERS = ("expired", "replayed")
FEEDBACK, COMPARED = "POST /v1/feedback", "POST /v1/comparisons"
RANKED = f"{COMPARED} ranking"  # the route is the same, the id one of several
FORMS = (FEEDBACK, COMPARED, RANKED)


@dataclass
class Seen:
    """What came back."""

    statuses: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))  # by kind
    bodies: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))  # of unknown ids, by form
    seconds: dict[tuple[str, str], list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )  # by form and kind
    sent: int = 0


class Forger:
    """Makes ids of every kind; ``offered`` are responses and comparisons that raters were shown, by prefix."""

    def __init__(
        self, ours: Secrets, life_seconds: float, offered: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._ours, self._strange = ours, Secrets((secrets.token_bytes(32),))
        self._life, self.offered = life_seconds, offered or {}
        self._makers: dict[str, Callable[[str, str], str]] = {
            "random": lambda prefix, _: prefix + base64.urlsafe_b64encode(secrets.token_bytes(33)).decode(),
            "changed": lambda prefix, user: changed(self.genuine(user, prefix)),
            "junk": lambda *_: secrets.token_urlsafe(random.choice((3, 20, 33, 60))),
            "other user": lambda prefix, user: self.genuine(f"{user}-too", prefix),
            "other key": lambda prefix, user: self._minted(prefix, self.subject(user, "k-theirs")),
            "other kind": lambda prefix, user: self.genuine(
                user, COMPARISON if prefix == RESPONSE else RESPONSE
            ),
            "other signer": lambda prefix, user: self._minted(prefix, self.subject(user), by=self._strange),
            "expired, other user": lambda prefix, user: self._old(prefix, f"{user}-too"),
            "other rater": lambda prefix, _: random.choice(self.offered[prefix]),
            "expired": self._old,
        }

    def subject(self, user: str, key: str = "k-ours") -> str:
        return subject_of(self._ours, key, f"user:{user}")

    def genuine(self, user: str, prefix: str = RESPONSE) -> str:
        return self._minted(prefix, self.subject(user))

    def _old(self, prefix: str, user: str) -> str:
        return self._minted(prefix, self.subject(user), ago=self._life + 60)

    def _minted(self, prefix: str, subject: str, ago: float = 0.0, by: Secrets | None = None) -> str:
        mint = mint_response if prefix == RESPONSE else mint_comparison
        return mint(by or self._ours, subject, now=time.time() - ago)

    def make(self, kind: str, user: str, prefix: str = RESPONSE) -> str:
        return self._makers[kind](prefix, user)


def changed(signed: str) -> str:
    """One letter is another."""
    place = random.randrange(signed.index("-") + 1, len(signed))
    letter = random.choice([one for one in "ABCDEFGHabcdefgh0123" if one != signed[place]])
    return signed[:place] + letter + signed[place + 1 :]


def asked(route: str, name: str, user: str, own: str = "") -> tuple[str, str, Any]:
    """Method, target and body of a request about an id; ``own``: what stands beside it in a ranking."""
    method, path = route.split()[:2]
    if "{id}" in path:
        return method, f"{path.replace('{id}', name)}?user={user}", None
    bodies: dict[str, dict[str, Any]] = {
        FEEDBACK: {"response_id": name, "rating": "up"},
        COMPARED: {"comparison_id": name, "preferred": 0},
        RANKED: {"ranking": [[own], [name]]},
        "POST /v1/labels": {"response_id": name, "labels": {"helpful": 1.0}},
        "POST /v1/reports": {"response_id": name, "kind": "unsafe"},
    }
    return method, path, {**bodies[route], "user": user}


ROUTES = (
    *FORMS, "POST /v1/labels", "POST /v1/reports", "GET /v1/feedback/{id}", "DELETE /v1/feedback/{id}",
)  # fmt: skip
Times: TypeAlias = Sequence[float] | NDArray[np.float64]
Said: TypeAlias = tuple[str, str, str, str]
"""A request that was taken: form, id, user, and what stood beside it."""


async def attack(url: str, forger: Forger, requests: int, said: Sequence[Said]) -> Seen:
    """``said``: what is in the log."""
    seen, draw = Seen(), random.Random(1)
    every = (*UNKNOWN, *OTHERS)
    todo = [kind for kind in every for _ in range(requests // len(every))]
    draw.shuffle(todo)

    def next_of(kind: str, place: int) -> Said:
        if kind == "replayed":
            return draw.choice(said)
        user = f"user-{place % KEPT_USERS}"
        route = draw.choice(FORMS if kind in OTHERS or place % 4 else ROUTES)
        name = forger.make(kind, user, COMPARISON if route == COMPARED else RESPONSE)
        return route, name, user, forger.genuine(user)

    async def client(http: aiohttp.ClientSession, number: int) -> None:
        for place in range(number, len(todo), CLIENTS):
            kind = todo[place]
            one = next_of(kind, place)
            method, target, body = asked(*one)
            began = time.perf_counter()
            async with http.request(method, url + target, json=body) as answer:
                told = await answer.read()
            took = time.perf_counter() - began
            seen.sent += 1
            seen.statuses[kind].add(answer.status)
            if kind in UNKNOWN:
                seen.bodies[one[0]].add(told)
            if one[0] in FORMS and place > WARM:
                seen.seconds[one[0], kind].append(took)

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {OURS}"}) as http:
        await asyncio.gather(*(client(http, number) for number in range(CLIENTS)))
    return seen


async def say(url: str, forger: Forger, count: int) -> list[Said]:
    """Genuine votes, comparisons and rankings in turn: what is taken."""
    said = []
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {OURS}"}) as http:
        for number in range(count):
            user, form = f"user-{number % KEPT_USERS}", FORMS[number % len(FORMS)]
            name = forger.genuine(user, COMPARISON if form == COMPARED else RESPONSE)
            one = (form, name, user, forger.genuine(user))
            method, target, body = asked(*one)
            async with http.request(method, url + target, json=body) as answer:
                assert answer.status == 201, await answer.text()
            said.append(one)
    return said


def queued(queue: RedisRatingQueue) -> None:
    """Items for the raters, of two replies and of three."""
    for number in range(2 * RATERS):
        messages = ({"role": "user", "content": f"question {number}"},)
        options = tuple(Option(f"reply {place}", "base") for place in range(2 + number % 2))
        queue.add(ALIAS, Item(item_id(messages), messages, options))


async def offered(url: str) -> dict[str, list[str]]:
    """What raters are shown: comparisons, and all responses, by the prefix of their ids."""
    found: dict[str, list[str]] = {COMPARISON: [], RESPONSE: []}
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {OURS}"}) as http:
        for number in range(2 * RATERS):
            target = f"/v1/annotations/next?alias={ALIAS}&user=rater-{number % RATERS}"
            async with http.get(url + target) as answer:
                assert answer.status == 200, await answer.text()
                told = await answer.json()
            found[COMPARISON] += [told["comparison_id"]] if told["comparison_id"] else []
            found[RESPONSE] += [choice["response_id"] for choice in told["choices"]]
    assert all(found.values())
    return found


def distance(some: Times, others: Times) -> float:
    """Of Kolmogorov and Smirnov: the largest difference of the two cumulative distributions, 0…1."""
    points = np.sort(np.concatenate([some, others]))
    below = [np.searchsorted(np.sort(one), points, side="right") / len(one) for one in (some, others)]
    return float(np.abs(below[0] - below[1]).max())


def rows_of(seen: Seen, accepted: int) -> list[Row]:
    """One row of all, and one of each form and kind whose times tell."""
    rows: list[Row] = [
        {
            "kind": "all",
            "requests": seen.sent,
            "accepted": accepted,
            "answers": len(set().union(*seen.bodies.values())),
            "statuses": {kind: sorted(codes) for kind, codes in seen.statuses.items()},
            "noise": round(max(_noise(seen, form) for form in FORMS), 4),
        }
    ]
    for form in FORMS:
        for kind in UNKNOWN:
            times = seen.seconds[form, kind]
            rest = [one for other in UNKNOWN if other != kind for one in seen.seconds[form, other]]
            rows.append(
                {
                    "form": form,
                    "kind": kind,
                    "requests": len(times),
                    "p50_us": round(percentile(times, 0.5) * 1e6, 1),
                    "p99_us": round(percentile(times, 0.99) * 1e6, 1),
                    "distance": round(distance(times, rest), 4),
                }
            )
    return rows


def _noise(seen: Seen, form: str) -> float:
    """The largest distance where kinds are drawn by lot out of all times of a form: as many kinds, as large."""
    times = np.random.default_rng(1).permutation(np.concatenate([seen.seconds[form, k] for k in UNKNOWN]))
    ends = np.cumsum([len(seen.seconds[form, kind]) for kind in UNKNOWN])
    parts = np.split(times, ends[:-1])
    rest = [np.concatenate([*parts[:place], *parts[place + 1 :]]) for place in range(len(parts))]
    return max(distance(part, other) for part, other in zip(parts, rest, strict=True))


def run(arguments: Sequence[str]) -> list[Row]:
    """Parse and measure."""
    parser = parser_of(__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--said", type=int, default=500, help="genuine sayings that are replayed")
    told = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name, valkey_server(Path(name) / "valkey") as (redis_url, _):
        client: Any = connect(redis_url)
        registry = RedisRegistry(client)
        for key_id, key in (("k-ours", OURS), ("k-theirs", THEIRS)):
            scopes = ("chat", "annotate")
            registry.put_key(KeyRecord(id=key_id, digest=digest_of(key), scopes=scopes, created=time.time()))
        registry.put_alias(AliasRecord(name=ALIAS))
        queued(RedisRatingQueue(client))
        settings = {"HEED_SUBJECT_RATE": "0", "HEED_RESPONSE_LIFE_SECONDS": "3600"}
        with gateway_server(Path(name), redis_url, "http://127.0.0.1:9", ready="healthz", **settings) as (
            url,
            _,
        ):
            shown = asyncio.run(offered(url))
            forger = Forger(Secrets.load(Path(name) / "data" / "secret"), 3600.0, shown)
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
            "accepted under forged, foreign, expired and replayed ids",
            f"{every['accepted']} of {every['requests']}",
            told,
        ),
        Figure(
            "largest distance of one kind's refusal times from the others' (0…1)",
            f"{max(row['distance'] for row in kinds):.3f}",
            f"by chance: {every['noise']:.3f}; p50 {p50[0]:.0f}–{p50[-1]:.0f} µs, p99 "
            f"{p99[0]:.0f}–{p99[-1]:.0f} µs",
        ),
    ]


if __name__ == "__main__":
    for result in run(sys.argv[1:]):
        print(json.dumps(result))
