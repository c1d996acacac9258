"""Every process is killed in its turn while people vote: no acknowledged vote is lost or counted twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from deploy.child import group_lives
from tests.chaos.launching import (
    HEED,
    Launch,
    Voters,
    assert_each_vote_counts_once,
    kill_while_people_vote,
    launched,
)
from tests.servers import ROOT, wait_until

ORDER = ("worker", "gateway", "redis", "engine")


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """Rounds are off: this is about votes."""
    with launched(tmp_path_factory.mktemp("chaos"), {}) as running:
        off = [*HEED, "aliases", "set", "heed", "--mode", "off"]
        env = {**os.environ, "HEED_DATA_DIR": str(running.data)}
        subprocess.run(off, env=env, cwd=ROOT, check=True, timeout=180)
        yield running


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_each_process_is_killed_and_each_acknowledged_vote_counts_once(launch: Launch) -> None:
    voters = Voters(launch.url)
    voters.start()
    wait_until(lambda: voters.votes >= 20, 180, "the first votes", launch.log)
    wait_until(lambda: launch.pid("worker") is not None, 180, "the worker", launch.log)
    for label in ORDER:
        kill_while_people_vote(launch, label, voters)
        enough = voters.votes + 10
        wait_until(lambda enough=enough: voters.votes >= enough, 300, f"votes after {label}", launch.log)  # type: ignore[misc]
    figures = voters.stop()
    assert figures.spooled > 0, "the store was killed: some votes must have gone through the spool"
    assert_each_vote_counts_once(launch, figures)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_a_killed_engine_leaves_none_of_its_processes_behind(launch: Launch) -> None:
    first = launch.pid("engine")
    assert first is not None
    launch.kill_and_wait("engine")
    with pytest.raises(ProcessLookupError):
        os.killpg(first, 0)


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_a_killed_supervisor_takes_every_process_along(launch: Launch) -> None:
    env = {**os.environ, "HEED_DATA_DIR": str(launch.data)}
    told = subprocess.run(
        [*HEED, "status", "--json"], capture_output=True, env=env, cwd=ROOT, check=True, timeout=180
    )
    groups = [entry["pid"] for entry in json.loads(told.stdout)["processes"] if entry["pid"]]
    assert len(groups) == 6
    os.kill(launch.state.supervisor_pid, signal.SIGKILL)
    wait_until(lambda: not any(group_lives(group) for group in groups), 180, "the end of all", launch.log)
