"""Every process is killed in its turn while people vote: no acknowledged vote is lost or counted twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.child import group_lives
from deploy.simulate import Crowd, CrowdSettings, Figures
from feedback.archive import Archive
from feedback.events import Comparison, Vote
from feedback.log import RedisEventLog
from feedback.store import connect
from tests.servers import ROOT, answers, free_port, process, wait_until

HEED = [sys.executable, "-m", "deploy.cli"]
ORDER = ("worker", "gateway", "redis", "engine")


@dataclass
class Launch:
    """A whole Heed with a crowd in front of it."""

    url: str
    data: Path
    log: Path

    def processes(self) -> list[dict[str, object]]:
        """As `heed status` tells them."""
        env = {**os.environ, "HEED_DATA_DIR": str(self.data)}
        command = [*HEED, "status", "--json"]
        ran = subprocess.run(
            command, capture_output=True, text=True, env=env, cwd=ROOT, check=True, timeout=60
        )
        found: list[dict[str, object]] = json.loads(ran.stdout)["processes"]
        return found

    def pid(self, label: str) -> int | None:
        """The pid of a process that is ready."""
        entry = next(e for e in self.processes() if e["label"] == label)
        return int(str(entry["pid"])) if entry["state"] == "ready" and entry["pid"] else None

    def kill_and_wait(self, label: str) -> None:
        """kill -9, then wait until another process does its work."""
        before = self.pid(label)
        assert before is not None, label
        os.kill(before, signal.SIGKILL)
        wait_until(lambda: self.pid(label) not in (None, before), 180, f"another {label}", self.log)


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """The real thing: store, gateway, engine, workers, beat. Rounds are off: this is about votes."""
    folder = tmp_path_factory.mktemp("chaos")
    data, log, port = folder / "data", folder / "up.log", free_port()
    url = f"http://127.0.0.1:{port}"
    with process([*HEED, "up", "--port", str(port)], log, {"HEED_DATA_DIR": str(data)}):
        wait_until(lambda: answers(f"{url}/healthz"), 60, "the gateway", log)
        wait_until(lambda: answers(f"{url}/readyz"), 240, "the engine", log)
        off = [*HEED, "aliases", "set", "heed", "--mode", "off"]
        subprocess.run(off, env={**os.environ, "HEED_DATA_DIR": str(data)}, cwd=ROOT, check=True, timeout=60)
        yield Launch(url, data, log)


class Voters(threading.Thread):
    """A crowd that goes on until it is told to stop."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.crowd = Crowd(
            CrowdSettings(url=url, votes=1_000_000, users=6, seed=3, give_up_after=1_000_000), self._on_vote
        )
        self.ended = threading.Event()

    def _on_vote(self, _: Figures) -> None:
        if self.ended.is_set():
            self.crowd.stop()
        time.sleep(0.02)  # people think; a vote each 20 ms is plenty for the count at the end

    def run(self) -> None:
        asyncio.run(self.crowd.run())


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_each_process_is_killed_and_each_acknowledged_vote_counts_once(launch: Launch) -> None:
    voters = Voters(launch.url)
    voters.start()
    wait_until(lambda: voters.crowd.figures.votes >= 20, 60, "the first votes", launch.log)
    for label in ORDER:
        launch.kill_and_wait(label)
        votes = voters.crowd.figures.votes
        wait_until(
            lambda votes=votes: voters.crowd.figures.votes >= votes + 10,
            120,
            f"votes after {label}",
            launch.log,
        )  # type: ignore[misc]
    voters.ended.set()
    voters.join(60)
    figures = voters.crowd.figures
    acknowledged = Counter(said["feedback_id"] for said in figures.acknowledged)
    assert figures.spooled > 0, "the store was killed: some votes must have gone through the spool"
    log = RedisEventLog(connect(json.loads((launch.data / "run" / "state.json").read_text())["redis_url"]))
    wait_until(
        lambda: log.backlog().events == 0,
        60,
        "the archive of every event",
        launch.data / "logs" / "worker-control.log",
    )
    archived = Counter(
        entry.event.feedback_id
        for entry in Archive(launch.data / "archive").events()
        if isinstance(entry.event, Vote | Comparison)
    )
    assert set(acknowledged) <= set(archived)
    assert max(archived.values()) == 1
    assert log.votes_total("heed") == len(archived)
    assert max(acknowledged.values()) == 1


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_killed_engine_leaves_none_of_its_processes_behind(launch: Launch) -> None:
    first = launch.pid("engine")
    assert first is not None
    launch.kill_and_wait("engine")
    with pytest.raises(ProcessLookupError):
        os.killpg(first, 0)


@pytest.mark.chaos
@pytest.mark.timeout(120)
def test_a_killed_supervisor_takes_every_process_along(launch: Launch) -> None:
    groups = [int(str(entry["pid"])) for entry in launch.processes() if entry["pid"]]
    assert len(groups) == 6
    supervisor = json.loads((launch.data / "run" / "state.json").read_text())["supervisor_pid"]
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not any(group_lives(group) for group in groups), 60, "the end of all", launch.log)
