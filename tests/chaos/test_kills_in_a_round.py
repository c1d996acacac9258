"""Every process is killed in its turn while PPO runs and people vote: the round ends, and all is well again."""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from feedback import keys
from feedback.errors import StoreUnavailable
from feedback.manifest import read_manifest, verify_files
from feedback.registry import RedisRegistry
from feedback.store import connect
from tests.chaos.launching import (
    Launch,
    Voters,
    assert_each_vote_counts_once,
    kill_while_people_vote,
    launched,
)
from tests.servers import wait_until

LABELS = ("redis", "gateway", "engine", "worker", "worker-control", "beat")
LEASE = "round:heed"
SETTINGS = {
    "HEED_ROUND_MIN_VOTES": "150",
    "HEED_PPO_STEPS": "100000",
    "HEED_PPO_SECONDS": "600",  # longer than all kills take
    "HEED_GATE_PROMPTS": "64",
    "HEED_LEASE_SECONDS": "8",
    "HEED_ROUND_PATIENCE_SECONDS": "0",
    "HEED_ROUND_OVERTAKEN": "0",  # people vote on meanwhile
}


class Rounds:
    """What the store says of the rounds of ``heed``, while it is there."""

    def __init__(self, url: str) -> None:
        self._store = connect(url)
        self.registry = RedisRegistry(self._store)

    @property
    def loop(self) -> dict[str, Any]:
        """As GET /v1/loop tells it; empty while the store is away."""
        try:
            return self.registry.loop("heed")
        except StoreUnavailable:
            return {}

    def steps_of_ppo(self) -> int:
        """Steps PPO has reported; 0 outside of it."""
        loop = self.loop
        return int(loop["figures"]["samples"]) // 128 if loop.get("step") == "ppo" and loop["progress"] else 0

    def ended(self) -> dict[str, Any] | None:
        """How the first round ended."""
        history = self.loop.get("history") or []
        return history[-1] if history else None

    def change(self, **fields: Any) -> None:
        """Write fields of the alias."""
        self.registry.put_alias(replace(self.registry.alias("heed"), **fields))

    def token(self) -> int:
        """The newest fencing token of the round's lease."""
        return int(self._store.get(keys.fence(LEASE)) or 0)

    def holder(self) -> str:
        return (self._store.hget(keys.lease(LEASE), "holder") or b"").decode()


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    with launched(tmp_path_factory.mktemp("rounds"), SETTINGS) as running:
        yield running


def chats(url: str) -> bool:
    """Whether a chat is answered with some text."""
    body = {"model": "heed", "messages": [{"role": "user", "content": "When do you open?"}], "user": "eve"}
    asked = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(asked, timeout=120) as reply:
            return bool(json.load(reply)["choices"][0]["message"]["content"])
    except (OSError, http.client.HTTPException):
        return False


def kill_all_but_the_worker(launch: Launch, rounds: Rounds, voters: Voters) -> None:
    """kill -9 of one after the other, each while PPO runs; PPO goes on. The engine takes longest to be back."""
    for label in ("redis", "gateway", "worker-control", "beat", "engine"):
        wait_until(lambda: rounds.loop != {}, 120, "the store", launch.log)
        assert rounds.loop["step"] == "ppo", f"PPO ended before {label} was killed: it must run longer"
        if label == "engine":
            launch.kill(label)
        else:
            kill_while_people_vote(launch, label, voters)


def kill_the_worker(launch: Launch, rounds: Rounds) -> None:
    """kill -9 in PPO, after a checkpoint; another process has the lease then."""
    told = launch.data / "logs" / "worker.log"
    wait_until(lambda: rounds.steps_of_ppo() >= 6, 420, "a step after PPO's first checkpoint", told)
    token, holder = rounds.token(), rounds.holder()
    launch.kill("worker")
    wait_until(lambda: rounds.token() > token, 420, "the lease in other hands", told)
    assert rounds.holder() not in ("", holder)


@pytest.mark.chaos
@pytest.mark.timeout(2400)
def test_every_process_is_killed_during_ppo_and_the_round_ends_and_no_vote_is_lost(launch: Launch) -> None:
    rounds, told = Rounds(launch.state.redis_url), launch.data / "logs" / "worker.log"
    wait_until(lambda: all(launch.pid(label) for label in LABELS), 420, "every part", launch.log)
    voters = Voters(launch.url, pause=0.1)
    voters.start()
    wait_until(lambda: rounds.steps_of_ppo() > 0, 420, "PPO", told)
    batch = rounds.loop["last_batch"]["id"]
    kill_all_but_the_worker(launch, rounds, voters)
    rounds.change(thresholds={"ppo_seconds": 1.0})  # begun anew, PPO has no more time than it has spent
    kill_the_worker(launch, rounds)
    rounds.change(mode="off")  # no other round follows by itself
    wait_until(lambda: rounds.ended() is not None, 420, "the round's end", told)
    ended = rounds.ended()
    wait_until(lambda: all(launch.pid(label) for label in LABELS), 420, "every part again", launch.log)
    votes = voters.votes
    wait_until(lambda: voters.votes > votes, 180, "more votes", launch.log)
    wait_until(lambda: chats(launch.url), 180, "a chat", launch.log)
    figures = voters.stop()

    assert ended is not None
    assert (ended["batch"], ended["verdict"] in {"candidate", "rejected"}) == (batch, True)
    assert all(launch.process(label).restarts >= 1 for label in LABELS)
    resumed = [int(step) for step in re.findall(r"PPO goes on after step (\d+)", told.read_text())]
    assert resumed
    assert min(resumed) >= 5
    assert figures.spooled > 0
    assert_each_vote_counts_once(launch, figures)
    assert_published_once(launch, rounds, ended["adapter"], batch)
    assert_workers_take_tasks_from_a_new_broker(launch, rounds)


def assert_published_once(launch: Launch, rounds: Rounds, adapter: str, batch: str) -> None:
    """The batch has one adapter, whole on disk, and no folder is without a record."""
    records = rounds.registry.adapters("heed")
    assert Counter(name for record in records for name in record.batches)[batch] == 1
    folder = launch.data / "adapters"
    assert {path.name for path in folder.iterdir()} == {record.id for record in records}
    verify_files(folder / adapter, read_manifest(folder / adapter), folder)


def assert_workers_take_tasks_from_a_new_broker(launch: Launch, rounds: Rounds) -> None:
    """Neither falls silent when its idle connection breaks: the schedule ticks on, and a wish is taken up."""
    launch.kill_and_wait("redis")
    now, token = time.time(), rounds.token()
    rounds.registry.set_loop("heed", {"train_requested": now})
    wait_until(lambda: rounds.token() > token, 420, "another round", launch.data / "logs" / "worker.log")
    wait_until(
        lambda: rounds.registry.loop("_workers")["archive"]["last_success"] > now, 180, "a tick", launch.log
    )
