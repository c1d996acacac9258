"""A whole Heed as `heed up` starts it, and a crowd that votes until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.simulate import Crowd, CrowdSettings, Figures
from deploy.state import LaunchState, ProcessState, read_state
from feedback.archive import Archive
from feedback.events import Comparison, Vote
from feedback.log import RedisEventLog
from feedback.store import connect
from tests.servers import answers, free_port, process, wait_until

HEED = [sys.executable, "-m", "deploy.cli"]


@dataclass
class Launch:
    """A running Heed."""

    url: str
    data: Path
    log: Path

    @property
    def state(self) -> LaunchState:
        """As its supervisor last wrote it."""
        state = read_state(self.data / "run")
        assert state is not None
        return state

    def process(self, label: str) -> ProcessState:
        return next(entry for entry in self.state.processes if entry.label == label)

    def pid(self, label: str) -> int | None:
        """The pid of a process that is ready."""
        entry = self.process(label)
        return entry.pid if entry.state == "ready" else None

    def kill(self, label: str) -> int:
        """kill -9; the pid that is gone."""
        pid = self.pid(label)
        assert pid is not None, label
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_and_wait(self, label: str) -> None:
        """kill -9, then wait until another process does its work."""
        before = self.kill(label)
        wait_until(lambda: self.pid(label) not in (None, before), 420, f"another {label}", self.log)


@contextmanager
def launched(folder: Path, settings: Mapping[str, str]) -> Iterator[Launch]:
    """The real thing: store, gateway, engine, workers, beat. All of it is gone at the end."""
    data, log, port = folder / "data", folder / "up.log", free_port()
    url = f"http://127.0.0.1:{port}"
    with process([*HEED, "up", "--port", str(port)], log, {"HEED_DATA_DIR": str(data), **settings}):
        wait_until(lambda: answers(f"{url}/healthz"), 180, "the gateway", log)
        wait_until(lambda: answers(f"{url}/readyz"), 420, "the engine", log)
        yield Launch(url, data, log)


class Voters(threading.Thread):
    """A crowd that goes on until it is told to stop."""

    def __init__(self, url: str, pause: float = 0.02) -> None:
        """``pause``: seconds after each vote; people think."""
        super().__init__(daemon=True)
        crowd = CrowdSettings(url=url, votes=1_000_000, users=6, seed=3, give_up_after=1_000_000)
        self.crowd = Crowd(crowd, self._on_vote)
        self.ended = threading.Event()
        self._pause = pause

    @property
    def votes(self) -> int:
        """How many were acknowledged."""
        return self.crowd.figures.votes

    def _on_vote(self, _: Figures) -> None:
        if self.ended.is_set():
            self.crowd.stop()
        time.sleep(self._pause)

    def run(self) -> None:
        asyncio.run(self.crowd.run())

    def stop(self) -> Figures:
        """Let everybody finish; what happened."""
        self.ended.set()
        self.join(180)
        assert not self.is_alive()
        return self.crowd.figures


def kill_while_people_vote(launch: Launch, label: str, voters: Voters) -> None:
    """kill -9, then wait until another process does its work. The store is killed until somebody has voted without it:
    where an engine is slow, nobody may just then.
    """
    launch.kill_and_wait(label)
    for _ in range(9 if label == "redis" else 0):
        if voters.crowd.figures.spooled:
            break
        launch.kill_and_wait(label)


def assert_each_vote_counts_once(launch: Launch, figures: Figures) -> None:
    """Every acknowledged vote is in the archive once, and the total is as many."""
    acknowledged = Counter(said["feedback_id"] for said in figures.acknowledged)
    log = RedisEventLog(connect(launch.state.redis_url))
    told = launch.data / "logs" / "worker-control.log"
    wait_until(lambda: log.backlog().events == 0, 300, "the archive of every event", told)
    archived = Counter(
        entry.event.feedback_id
        for entry in Archive(launch.data / "archive").events()
        if isinstance(entry.event, Vote | Comparison)
    )
    assert set(acknowledged) <= set(archived)
    assert max(archived.values()) == 1
    assert max(acknowledged.values()) == 1
    assert log.votes_total("heed") == len(archived)
