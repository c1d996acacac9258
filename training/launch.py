"""What is learnt from a batch, by several processes: the worker starts ``torchrun``, and attends to its first process.

That one tells the worker's watcher how it goes and asks it whether to stop, over a socket; what was learnt, or why
not, comes last. The processes' standard input is a pipe that nobody writes to: it ends with the worker, however
that ends, and they end with it. So nobody trains on beside the worker that takes the round up.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Client, Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from training import ranks
from training.errors import NothingToLearn, RoundCancelled
from training.examples import Examples
from training.learning import Learned, Watcher, learn
from training.reward_model import RewardReport
from training.settings import TrainingSettings
from training.trunk import Trunk

GRACE = 30.0
"""Seconds in which processes that are done, or whose worker is, have to be gone."""


# --- the worker -----------------------------------------------------------------------------------------------


def learn_together(
    examples: Examples,
    served: Path | None,
    settings: TrainingSettings,
    *,
    work: Path,
    rewards: Path,
    seed: int,
    watcher: Watcher,
) -> Learned:
    """As ``learn``, in ``settings.training_processes`` processes on this host. Raises RuntimeError when they fail, and
    what the watcher raises.
    """
    asked = {"examples": examples, "served": served, "work": work, "rewards": rewards, "seed": seed}
    with TemporaryDirectory(prefix="heed-") as folder, socket.socket(socket.AF_UNIX) as door:
        address = str(Path(folder) / "talk")  # in a folder that is this user's alone
        door.bind(address)
        door.listen(1)
        door.settimeout(0.2)
        with _started(settings.training_processes, address) as processes:
            with _let_in(door, processes) as talk:
                talk.send((settings, asked))
                learned = _attended(talk, processes, watcher)
            with suppress(subprocess.TimeoutExpired):
                processes.wait(GRACE)
            return learned


@contextmanager
def _started(count: int, address: str) -> Iterator[subprocess.Popen[bytes]]:
    """The processes; those that are left at the end are ended."""
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    processes = subprocess.Popen([*run, "-m", "training.launch", address], stdin=subprocess.PIPE)
    try:
        yield processes
    finally:
        if processes.stdin is not None:
            processes.stdin.close()
        try:
            processes.wait(GRACE)
        except subprocess.TimeoutExpired:
            processes.kill()
            processes.wait()


def _let_in(door: socket.socket, processes: subprocess.Popen[bytes]) -> Connection:
    """The first process, once it is there."""
    while True:
        try:
            return Connection(door.accept()[0].detach())
        except TimeoutError:
            if processes.poll() is not None:
                raise _ended(processes) from None


def _attended(talk: Connection, processes: subprocess.Popen[bytes], watcher: Watcher) -> Learned:
    """Relay to the watcher until there is an end."""
    while True:
        try:
            what, *told = talk.recv()
        except (EOFError, ConnectionError):
            raise _ended(processes) from None
        if what == "learned":
            learned: Learned = told[0]
            return learned
        if what == "failed":
            raise told[0]
        answer = getattr(watcher, what)(*told)
        if what == "should_stop":
            talk.send(answer)


def _ended(processes: subprocess.Popen[bytes]) -> RuntimeError:
    with suppress(subprocess.TimeoutExpired):
        processes.wait(GRACE)
    return RuntimeError(f"the processes of the training run ended with {processes.returncode}")


# --- its processes --------------------------------------------------------------------------------------------


class Relay:
    """The worker's watcher, from the first of the processes; from the others, nobody."""

    def __init__(self, talk: Connection | None) -> None:
        self._talk = talk

    def _tell(self, *what: object) -> None:
        if self._talk is not None:
            self._talk.send(what)

    def step(self, name: str, fraction: float) -> None:
        self._tell("step", name, fraction)

    def progress(self, name: str, fraction: float, figures: Mapping[str, float]) -> None:
        self._tell("progress", name, fraction, dict(figures))

    def fitted(self, reward: RewardReport, judge: RewardReport) -> None:
        self._tell("fitted", reward, judge)

    def should_stop(self) -> bool:
        self._tell("should_stop")
        return self._talk is not None and bool(self._talk.recv())


def main(address: str) -> None:
    """One of the processes."""
    threading.Thread(target=_end_with_the_worker, daemon=True).start()
    logging.basicConfig(level=logging.INFO)
    with ranks.joined():
        talk = Client(address, "AF_UNIX") if ranks.is_first() else None
        heard: Any = talk.recv() if talk is not None else None
        settings, asked = ranks.agreed(heard)
        told: tuple[str, object]
        try:
            told = ("learned", _learn(settings, asked, Relay(talk)))
        except (NothingToLearn, RoundCancelled) as error:  # of all processes alike
            told = ("failed", error)
        except Exception as error:
            if talk is not None:
                talk.send(("failed", RuntimeError(f"{type(error).__name__}: {error}")))
            raise
        if talk is not None:
            talk.send(told)


def _learn(settings: TrainingSettings, asked: Mapping[str, Any], watcher: Watcher) -> Learned:
    threads = -(-settings.training_threads // ranks.size())  # of all processes together
    trunk = Trunk.load(
        settings.model_path,
        dtype=settings.arithmetic,
        threads=threads or None,
        shard=settings.training_shard_base,
        recompute=settings.gradient_checkpointing,
    )
    return learn(trunk, settings=settings, watcher=watcher, **asked)


def _end_with_the_worker() -> None:
    """At once, wherever the work is: another worker may be about to take it up."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
