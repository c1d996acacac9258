"""The loop in one sitting: users with a hidden preference vote, the loop learns, quality is measured."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deploy.client import Client, find_url
from deploy.demo_view import View
from deploy.detach import start_detached, stop_running
from deploy.errors import DeployError, NotRunning, RequestRefused
from deploy.picture import Point, draw
from deploy.ports import is_free
from deploy.probes import http_ok
from deploy.quality import held_out, judged, replies
from deploy.settings import LaunchSettings
from deploy.simulate import Crowd, CrowdSettings
from deploy.state import locked

READY_SECONDS, ROUND_SECONDS, POLL_SECONDS = 300.0, 400.0, 0.5
QUIET_SECONDS = 12.0  # so long nothing happens before the demo concludes that nothing will
# A demo is short: ramps pass in seconds rather than hours. What is set by hand stands.
HURRY = {"HEED_REVIEW_STAGE_SECONDS": "3"}


@dataclass(frozen=True)
class DemoSettings:
    """What the demo shows."""

    votes: int
    waves: int
    preference: str
    noise: float
    seed: int
    out: Path
    alias: str = "heed"


def run_demo(settings: DemoSettings, url: str | None) -> None:
    """Show the loop, write the picture, print the table. Starts a Heed when none runs, and stops it then."""
    with a_heed(url) as where, View(settings.votes) as view:
        wait_ready(where, view)
        points = Demo(settings, where, view).run()
    title = f"{settings.votes} votes, {settings.noise:.0%} of them wrong, for “{settings.preference}”"
    draw(points, title, settings.out)
    view.table(points)
    print(f"picture: {settings.out.absolute()}")


@contextmanager
def a_heed(url: str | None) -> Iterator[str]:
    """The address of the Heed that runs, or of one that lives as long as the demo."""
    if url is not None or locked(LaunchSettings().run_dir) or "HEED_URL" in os.environ:
        yield find_url(url)
        return
    for name, value in HURRY.items():
        os.environ.setdefault(name, value)
    settings = LaunchSettings()
    port = settings.port if is_free(settings.host, settings.port) else 0
    print(start_detached(settings, ["up", "--port", str(port)]))
    try:
        yield find_url()
    finally:
        print(stop_running(settings))


def wait_ready(url: str, view: View) -> None:
    """Wait until a chat can be answered. Raises NotRunning."""
    view.says("the engine warms up")
    deadline = time.monotonic() + READY_SECONDS
    while not http_ok(f"{url}/readyz"):
        if time.monotonic() > deadline:
            raise NotRunning(f"that is ready at {url} (its engine did not come up)")
        time.sleep(POLL_SECONDS)


class Demo:
    """One run against a Heed that is ready."""

    def __init__(self, settings: DemoSettings, url: str, view: View) -> None:
        self._settings, self._url, self._view = settings, url, view
        self._client = Client(url, seconds=10.0)
        self._prompts = held_out()
        self._votes = 0
        self._base: list[str] = []

    def run(self) -> list[Point]:
        """A measurement before the first vote and one after each wave."""
        points = [self._measure(None)]
        waves = self._settings.waves
        for wave in range(waves):
            share = self._settings.votes * (wave + 1) // waves - self._votes
            before, began = self._live(), time.time()
            self._wave(wave, share)
            fresh = self._wait_for_loop(before, began)
            points.append(self._measure(fresh))
        return points

    def _wave(self, wave: int, votes: int) -> None:
        """Let the crowd vote; every wave has other users with other questions."""
        settings, base = self._settings, self._votes
        self._view.says(f"wave {wave + 1}: {votes} votes")
        crowd = Crowd(
            CrowdSettings(
                url=self._url,
                votes=votes,
                users=16,
                preference=settings.preference,
                noise=settings.noise,
                seed=1000 * settings.seed + wave,
                alias=settings.alias,
            ),
            on_vote=lambda figures: self._view.votes(base + figures.votes),
        )
        figures = asyncio.run(crowd.run())
        self._votes += figures.votes
        if figures.votes < votes:
            raise DeployError(
                f"only {figures.votes} of {votes} votes were taken: {'; '.join(figures.failures[:3])}"
            )
        self._view.says(
            f"wave {wave + 1}: {votes} votes in {figures.seconds:.0f} s, {figures.failed_requests} failed"
        )

    def _wait_for_loop(self, before: str, wave_began: float) -> float | None:
        """Seconds until a new adapter is live; None when the loop comes to rest without one."""
        began = idle_since = time.monotonic()
        asked = False
        while (now := time.monotonic()) - began < ROUND_SECONDS:
            loop = self._loop()
            live = str(loop.get("live") or before)
            if live != before:
                self._view.says(f"{live} is live {now - began:.0f} s after the wave's last vote")
                return now - began
            if busy(loop):
                idle_since = now
            waiting = int(loop.get("votes_total") or 0) - int(loop.get("taken_votes") or 0)
            rested = now - idle_since
            if waiting > 0 and rested > QUIET_SECONDS and not asked:
                self._client.post("/v1/loop/train", {"alias": self._settings.alias})
                asked, idle_since = True, now
            elif rested > QUIET_SECONDS and ended_since(loop, wave_began):
                self._view.says(f"no new adapter: {loop['last_round'].get('reason')}")
                return None
            time.sleep(POLL_SECONDS)
        self._view.says("the loop took too long for this wave; going on")
        return None

    def _loop(self) -> Mapping[str, Any]:
        """GET /v1/loop, shown; empty while the gateway cannot tell."""
        try:
            loop = self._client.get("/v1/loop", alias=self._settings.alias)
        except RequestRefused as error:
            if error.status < 500:
                raise
            return {}
        self._view.loop(loop)
        return loop

    def _live(self) -> str:
        return str(self._loop().get("live") or "base")

    def _measure(self, fresh: float | None) -> Point:
        """What serves now against the base, whose replies are asked for once; the base itself wins half."""
        settings, live = self._settings, self._live()
        asked = f"{settings.alias}:{live}"
        self._view.says(f"measuring {live} on {len(self._prompts)} held-out prompts")
        if not self._base:
            self._base = asyncio.run(replies(self._url, self._prompts, f"{settings.alias}:base"))
        texts = self._base if live == "base" else asyncio.run(replies(self._url, self._prompts, asked))
        quality = judged(settings.preference, self._prompts, live, texts, self._base)
        if live == "base":
            quality = replace(quality, lower=0.5, upper=0.5)
        self._view.says(f"{live} wins {quality.win_rate:.0%} [{quality.lower:.0%}, {quality.upper:.0%}]")
        return Point(self._votes, live, quality, fresh)


def busy(loop: Mapping[str, Any]) -> bool:
    """Whether a round runs or an adapter is on trial; also when nothing is known."""
    counts = loop.get("adapters") or {}
    return not loop or bool(loop.get("step") or counts.get("candidate") or counts.get("canary"))


def ended_since(loop: Mapping[str, Any], moment: float) -> bool:
    """Whether the newest round ended after ``moment`` (Unix seconds)."""
    return float((loop.get("last_round") or {}).get("ended") or 0.0) >= moment
