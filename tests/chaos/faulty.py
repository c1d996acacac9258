"""Runs one task of the workers in a process of its own, with a fault at an exact moment.

The fault comes once, ``before`` or ``after`` the first call of a function named ``module:function`` or
``module:class.method``: ``kill`` kills the process, ``stop`` halts it until it is told to go on, ``kill-store``
kills the store. Signals are real, and so is all else. Processes are forked from one that has imported torch.
"""

from __future__ import annotations

import functools
import importlib
import logging
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Fault:
    """What happens, and when. ``pid``: of the store."""

    what: str
    when: str = ""
    where: str = ""
    pid: int = 0

    def plant(self) -> None:
        """Replace the function by one that has the fault beside its first call."""
        module, _, path = self.where.partition(":")
        *holders, name = path.split(".")
        holder: Any = functools.reduce(getattr, holders, importlib.import_module(module))
        setattr(holder, name, self._around(getattr(holder, name)))

    def _around(self, whole: Callable[..., Any]) -> Callable[..., Any]:
        waiting = [self._happen]

        @functools.wraps(whole)
        def faulty(*args: Any, **more: Any) -> Any:
            todo = waiting.pop() if waiting else None
            if todo and self.when == "before":
                todo()
            result = whole(*args, **more)
            if todo and self.when == "after":
                todo()
            return result

        return faulty

    def _happen(self) -> None:
        if self.what == "kill-store":
            os.kill(self.pid, signal.SIGKILL)
        else:
            os.kill(os.getpid(), signal.SIGKILL if self.what == "kill" else signal.SIGSTOP)


def begin(
    task: str, fault: Fault | None, env: Mapping[str, str], log: Path, file_bytes: int | None = None
) -> ForkServerProcess:
    """Start ``archive``, or ``train`` for the alias ``heed``. ``file_bytes``: the kernel refuses longer files."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.rounds", "training.tasks"])
    started = context.Process(target=_work, args=(task, fault, dict(env), log, file_bytes), daemon=True)
    started.start()
    return started


def _work(task: str, fault: Fault | None, env: Mapping[str, str], log: Path, file_bytes: int | None) -> None:
    os.environ.update(env)
    with log.open("ab") as sink:
        for stream in (1, 2):
            os.dup2(sink.fileno(), stream)
    logging.basicConfig(level=logging.INFO)
    if file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))
    from training import tasks

    tasks.ABANDONED_SECONDS = 0.0  # nobody else is at work here
    if fault is not None:
        fault.plant()
    getattr(tasks, task)(*(["heed"] if task == "train" else []))
