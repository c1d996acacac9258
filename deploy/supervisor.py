"""Keeps a set of processes alive until it is told to stop, and then stops them in the right order."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

from deploy.child import Child, Program
from deploy.state import LaunchState, ProcessState, write_state

TICK_SECONDS, PROBE_SECONDS = 0.2, 0.4
STOP_ORDER = (("gateway",), ("beat", "worker"), ("engine",), ("redis",))
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Supervisor:
    """Starts programs, watches them, stops them. Everything but the probes happens in the calling thread."""

    def __init__(self, state: LaunchState, run_dir: Path, logs: Path) -> None:
        self.state = state
        self._run_dir, self._logs = run_dir, logs
        self._children: list[Child] = []
        self._later: list[tuple[Callable[[], bool], Child]] = []
        # no Event: a handler that sets one may wait for ever for a lock that its own thread holds
        self._stopping = False
        self._probing = threading.Event()
        self._written: tuple[ProcessState, ...] | None = None

    def add(self, program: Program, after: Callable[[], bool] | None = None) -> None:
        """Start ``program`` now, or at the first tick at which ``after`` is true."""
        child = Child(program, self._logs)
        self._children.append(child)
        if after is None:
            child.start()
        else:
            self._later.append((after, child))

    def ready(self, name: str) -> bool:
        """Whether every process of that name is ready; true when there is none."""
        return all(child.health == "ready" for child in self._children if child.program.name == name)

    def processes(self) -> tuple[ProcessState, ...]:
        return tuple(child.state() for child in self._children)

    def run(self, each_tick: Callable[[tuple[ProcessState, ...]], None]) -> None:
        """Watch until a stop signal comes, then stop everything. ``each_tick`` shows the state to people."""
        former = {number: signal.signal(number, self._told_to_stop) for number in STOP_SIGNALS}
        prober = threading.Thread(target=self._probe_for_ever, name="probes", daemon=True)
        prober.start()
        try:
            while not self._stopping:
                self._tick()
                self._show(each_tick)
                time.sleep(TICK_SECONDS)
        finally:
            self._probing.set()
            self._stop_all(each_tick)
            for number, handler in former.items():
                signal.signal(number, handler)

    def _show(self, each_tick: Callable[[tuple[ProcessState, ...]], None]) -> None:
        with contextlib.suppress(
            OSError
        ):  # the terminal has been closed: the processes must be stopped all the same
            each_tick(self.state.processes)

    def _told_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _tick(self) -> None:
        waiting = self._later
        self._later = []
        for after, child in waiting:
            if after():
                child.start()
            else:
                self._later.append((after, child))
        now = time.monotonic()
        for child in self._children:
            child.tick(now)
        self._note()

    def _note(self) -> None:
        processes = self.processes()
        if processes == self._written:
            return
        self.state = replace(self.state, supervisor_pid=os.getpid(), processes=processes)
        try:
            write_state(self._run_dir, self.state)
        except OSError:
            return  # a full disk must not end the processes; the next tick tries again
        self._written = processes

    def _probe_for_ever(self) -> None:
        while not self._probing.is_set():
            for child in self._children:
                child.check()
            self._probing.wait(PROBE_SECONDS)

    def _stop_all(self, each_tick: Callable[[tuple[ProcessState, ...]], None]) -> None:
        for names in STOP_ORDER:
            children = [child for child in self._children if child.program.name in names]
            for child in children:
                child.ask_to_stop()
            for child in children:
                child.wait_stopped()
            self._note()
            self._show(each_tick)
