"""A round's learning in processes of torchrun: what one gives, and nobody left when the worker is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tests.unit.training.conftest import Loader
from tests.unit.training.test_learning import Watching, votes
from training.errors import RoundCancelled
from training.launch import Relay, _attended, learn_together
from training.learning import Learned, learn
from training.settings import TrainingSettings
from training.trunk import WEIGHTS_FILE, Trunk

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def two_lanes(tiny: Loader) -> Trunk:
    return tiny(seed=11)


def asked(trunk: Trunk, folder: Path, watcher: Watching, **settings: Any) -> dict[str, Any]:
    parts = {"training_processes": 2, "training_threads": 2, "arithmetic": "float32"}
    own = {"model": trunk.model_path, **parts, **settings}
    thresholds = {"ppo_seconds": 600.0, "ppo_steps": 3, "gate_prompts": 16}  # the third moves the policy
    return {
        "examples": votes(160, coin=False),
        "served": None,
        "settings": TrainingSettings().model_copy(update=own | thresholds),
        "work": folder,
        "rewards": folder / "reward",
        "seed": 1,
        "watcher": watcher,
    }


@pytest.fixture(scope="module")
def alone(two_lanes: Trunk, tmp_path_factory: pytest.TempPathFactory) -> tuple[Learned, Watching]:
    """What one process learns."""
    watcher = Watching()
    return learn(two_lanes, **asked(two_lanes, tmp_path_factory.mktemp("one"), watcher)), watcher


@pytest.mark.parametrize("shard", [False, True])
def test_two_processes_learn_what_one_does(
    two_lanes: Trunk, alone: tuple[Learned, Watching], tmp_path: Path, shard: bool
) -> None:
    (alone, one), two = alone, Watching()
    together = learn_together(**asked(two_lanes, tmp_path / "two", two, training_shard_base=shard))
    assert together.adapter == tmp_path / "two" / "adapter"
    assert alone.adapter is not None
    theirs = load_file(alone.adapter / WEIGHTS_FILE)
    for name, weight in load_file(together.adapter / WEIGHTS_FILE).items():
        torch.testing.assert_close(weight, theirs[name], atol=1e-5, rtol=0)
    assert max(float(weight.abs().max()) for name, weight in theirs.items() if "lora_B" in name) > 1e-3
    assert two.steps == one.steps == ["reward model", "ppo", "gate"]
    assert two.accuracy == pytest.approx(one.accuracy)
    untimed = [{**told.trained["ppo"], "seconds": 0} for told in (together, alone)]
    assert untimed[0] == pytest.approx(untimed[1], abs=1e-4)
    ours, theirs_ = (told.verdict.as_dict()["checks"] for told in (together, alone))
    assert [check["verdict"] for check in ours] == [check["verdict"] for check in theirs_]
    assert (tmp_path / "two" / "reward" / "judge" / "report.json").exists()


def test_the_relay_asks_the_workers_watcher_and_tells_it_of_the_end() -> None:
    here, there = Pipe()
    watcher, answers = Watching(patience=2), list[bool]()

    def first() -> None:
        relay = Relay(there)
        relay.step("reward model", 0.0)
        answers.extend(relay.should_stop() for _ in range(2))
        there.send(("failed", RoundCancelled("enough")))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(first)
        with pytest.raises(RoundCancelled, match="enough"):
            _attended(here, subprocess.Popen("true"), watcher)
    assert watcher.steps == ["reward model"]
    assert answers == [False, True]
    there.close()
    with pytest.raises(RuntimeError, match="ended with 1"):
        _attended(here, subprocess.Popen("false"), watcher)


def test_the_other_processes_tell_nobody_and_want_no_end() -> None:
    relay = Relay(None)
    relay.step("ppo", 0.0)
    relay.progress("ppo", 0.5, {})
    assert not relay.should_stop()


def test_processes_that_cannot_start_are_told(
    two_lanes: Trunk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(RuntimeError, match="ended with 1"):
        learn_together(**asked(two_lanes, tmp_path, Watching()))


def wait_for_the_end_of(processes: Collection[psutil.Process]) -> None:
    until = time.monotonic() + 120
    while [one for one in processes if lives(one)]:
        assert time.monotonic() < until, "somebody trains on"
        time.sleep(0.1)


def children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Gone(Exception):
    """What the watcher raises when another worker has taken over."""


class Interrupting(Watching):
    """Raises as soon as work begins, and notes who works then: children that other tests keep are not of the work."""

    def __init__(self) -> None:
        super().__init__()
        self._before = children()

    def step(self, _name: str, _fraction: float) -> None:
        self.working = children() - self._before
        raise Gone


def test_when_the_watcher_raises_nobody_works_on(two_lanes: Trunk, tmp_path: Path) -> None:
    watcher = Interrupting()
    with pytest.raises(Gone):
        learn_together(**asked(two_lanes, tmp_path, watcher))
    assert len(watcher.working) >= 3  # torchrun and its two
    wait_for_the_end_of(watcher.working)


class Killing(Watching):
    """Kills one of the processes as soon as work begins, and notes who works then."""

    def __init__(self) -> None:
        super().__init__()
        self._before = children()

    def step(self, _name: str, _fraction: float) -> None:
        self.working = children() - self._before
        (*_, last) = sorted(one.pid for one in self.working if "torch.distributed.run" not in one.cmdline())
        os.kill(last, signal.SIGKILL)


def test_when_one_process_of_a_base_that_is_cut_up_is_killed_nobody_works_on(
    two_lanes: Trunk, tmp_path: Path
) -> None:
    watcher = Killing()
    with pytest.raises(RuntimeError):
        learn_together(**asked(two_lanes, tmp_path, watcher, training_shard_base=True))
    assert len(watcher.working) >= 3
    wait_for_the_end_of(watcher.working)


WORKER = """
import sys, time
from pathlib import Path
from tests.unit.training.test_launch import Watching, asked
from training.launch import learn_together

class Waiting(Watching):
    def step(self, name, fraction):
        print("at work", flush=True)
        time.sleep(600)

class Model:
    model_path = sys.argv[1]

learn_together(**asked(Model, Path(sys.argv[2]), Waiting()))
"""


def test_when_the_worker_is_killed_its_processes_end(two_lanes: Trunk, tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, two_lanes.model_path, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert any(line == "at work\n" for line in worker.stdout)
        working = psutil.Process(worker.pid).children(recursive=True)
        assert len(working) >= 3
        worker.kill()
        wait_for_the_end_of(working)
