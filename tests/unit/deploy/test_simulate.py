from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from deploy.preferences import LIKED_FROM, preference
from deploy.quality import evaluate, held_out, wilson
from deploy.simulate import Crowd, CrowdSettings, prompts
from deploy.visitor import CallFailed, Visitor, session

KIND = "Of course! We are open from 8 am until 6 pm, you are welcome any day but Sunday. Thank you!"
RUDE = "Learn to read. Now go away."


class Gateway:
    """Answers as the contract says; ``heed:a-1`` is always kind, the base always rude."""

    def __init__(self) -> None:
        self.votes: dict[str, str] = {}
        self.preferred: dict[str, object] = {}
        self.users: Counter[str] = Counter()
        self.texts: dict[str, str] = {}
        self.broken = 0  # so many chats fail first
        self.live: str | None = None
        self._made = 0

    def _id(self, prefix: str) -> str:
        self._made += 1
        return f"{prefix}{self._made}"

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.users[request.headers["Heed-User"]] += 1
        if self.broken:
            self.broken -= 1
            return web.json_response({"error": {"message": "warming up"}}, status=503)
        text = {"heed:a-1": KIND, "heed:base": RUDE}.get(body["model"], (KIND, RUDE)[self._made % 2])
        response_id = self._id("chatcmpl-")
        self.texts[response_id] = text
        out = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await out.prepare(request)
        for piece in re.findall(r"\S+\s*", text):
            chunk = {"id": response_id, "choices": [{"index": 0, "delta": {"content": piece}}]}
            await out.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        await out.write(b"data: [DONE]\n\n")
        return out

    async def compare(self, request: web.Request) -> web.Response:
        self.users[request.headers["Heed-User"]] += 1
        choices = [
            {
                "index": side,
                "response_id": self._id("chatcmpl-"),
                "message": {"role": "assistant", "content": text},
            }
            for side, text in ((1, KIND), (0, RUDE))
        ]
        return web.json_response({"id": self._id("cmpr-"), "object": "chat.comparison", "choices": choices})

    async def vote(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.votes[body["response_id"]] = body["rating"]
        return web.json_response({"feedback_id": "fb-" + body["response_id"], "status": "stored"}, status=201)

    async def prefer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.preferred[body["comparison_id"]] = body["preferred"]
        return web.json_response(
            {"feedback_id": "fb-" + body["comparison_id"], "status": "spooled"}, status=202
        )

    async def alias(self, request: web.Request) -> web.Response:
        return web.json_response({"name": request.match_info["name"], "live": self.live})


@pytest.fixture
async def gateway() -> AsyncIterator[tuple[Gateway, str]]:
    made = Gateway()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", made.chat)
    app.router.add_post("/v1/chat/comparisons", made.compare)
    app.router.add_post("/v1/feedback", made.vote)
    app.router.add_post("/v1/comparisons", made.prefer)
    app.router.add_get("/v1/aliases/{name}", made.alias)
    async with TestServer(app) as server:
        yield made, str(server.make_url("")).rstrip("/")


async def test_a_crowd_without_noise_votes_as_its_preference_says(gateway: tuple[Gateway, str]) -> None:
    made, url = gateway
    figures = await Crowd(CrowdSettings(url=url, votes=60, users=5, seed=4)).run()
    assert figures.votes == 60
    assert figures.failed_requests == 0
    score, bar = preference("polite_helpful"), LIKED_FROM["polite_helpful"]
    assert made.votes == {i: "up" if score("", made.texts[i]) > bar else "down" for i in made.votes}
    assert set(made.preferred.values()) == {1}
    assert len(made.votes) + len(made.preferred) == 60
    assert figures.comparisons == figures.spooled == len(made.preferred)
    assert len(made.users) == 5
    assert figures.ttft_p50 is not None
    assert len(figures.acknowledged) == 60


async def test_noise_turns_about_that_share_of_the_verdicts_round(gateway: tuple[Gateway, str]) -> None:
    made, url = gateway
    await Crowd(CrowdSettings(url=url, votes=1000, users=10, seed=1, noise=0.2, compare_share=1.0)).run()
    turned = sum(preferred == 0 for preferred in made.preferred.values())
    assert 117 < turned < 300  # who is next is a matter of time: six standard deviations and more


async def test_failed_requests_are_counted_and_all_votes_still_given(
    gateway: tuple[Gateway, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.simulate.PAUSE_AFTER_FAILURE", 0.0)
    made, url = gateway
    made.broken = 7
    figures = await Crowd(CrowdSettings(url=url, votes=20, users=3, compare_share=0.0)).run()
    assert (figures.votes, figures.failed_requests) == (20, 7)
    assert figures.failures[0].startswith("503")


async def test_a_crowd_gives_up_when_nothing_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.simulate.PAUSE_AFTER_FAILURE", 0.0)
    figures = await Crowd(CrowdSettings(url="http://127.0.0.1:1", votes=5, users=2, give_up_after=6)).run()
    assert figures.votes == 0
    assert 6 <= figures.failed_requests <= 7


async def test_the_better_adapter_wins_every_prompt(gateway: tuple[Gateway, str]) -> None:
    _, url = gateway
    found = await evaluate(url, "polite_helpful", held_out(40), model="heed:a-1")
    assert (found.win_rate, found.prompts) == (1.0, 40)
    assert found.lower > 0.9
    same = await evaluate(url, "polite_helpful", held_out(40), model="heed:base")
    assert same.win_rate == 0.5


async def test_a_call_that_is_refused_carries_its_status(gateway: tuple[Gateway, str]) -> None:
    made, url = gateway
    made.broken = 1
    async with session() as http:
        with pytest.raises(CallFailed, match="warming up") as caught:
            await Visitor(http, url, "ann").chat([{"role": "user", "content": "Hi"}])
    assert caught.value.status == 503


def test_wilson_agrees_with_values_worked_out_by_hand() -> None:
    assert wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0.3, 0) == (0.0, 1.0)


def test_users_and_judges_ask_other_questions() -> None:
    asked = prompts(3)
    users = {json.dumps(list(next(asked))) for _ in range(500)}
    judges = {json.dumps(list(messages)) for messages in held_out(200)}
    assert users.isdisjoint(judges)
    assert all(json.loads(said)[-1]["role"] == "user" for said in users)
