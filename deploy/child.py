"""One supervised process: started on a leash, restarted with a growing pause, stopped with all it started."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import psutil

from deploy.state import ProcessState

Health: TypeAlias = Literal["starting", "ready", "unhealthy", "waiting", "stopped"]
LEASH = Path(__file__).with_name("leash.py")
LOG_BYTES = 8_000_000
FIRST_PAUSE, LONGEST_PAUSE, CALM_SECONDS = 0.5, 30.0, 60.0


@dataclass(frozen=True)
class Program:
    """What to run, and how to tell that it does its work."""

    name: str  # gateway | engine | redis | worker | beat
    label: str
    command: tuple[str, ...]
    probe: Callable[[], bool]  # called from another thread; must return within a few seconds
    env: Mapping[str, str] = field(default_factory=dict)
    nice: int = 0
    start_seconds: float = 60.0  # may take so long until the first good probe
    silent_seconds: float = 30.0  # is killed and started anew after so long without a good probe
    stop_seconds: float = 10.0  # is killed when it has not ended so long after the stop signal
    stop_signal: int = signal.SIGTERM
    orphan_signal: int = signal.SIGTERM  # what the kernel sends when the supervisor is killed


class Child:
    """The process of one Program, over all its restarts. ``tick`` is called often, from the main thread."""

    def __init__(self, program: Program, logs: Path) -> None:
        self.program = program
        self.log = logs / f"{program.label}.log"
        self.restarts = 0
        self.health: Health = "waiting"
        self._process: subprocess.Popen[bytes] | None = None
        self._created: float | None = None
        self._good = 0.0  # monotonic time of the newest good probe, or of the start
        self._due = math.inf  # monotonic time of the next start; none before the first
        self._began = 0.0  # monotonic time of the newest start
        self._pause = FIRST_PAUSE

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start it in a session of its own, with its output appended to its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        program = self.program
        leash = [str(os.getpid()), str(int(program.orphan_signal)), str(program.nice)]
        handle = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LEASH), *leash, *program.command],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**_inherited(), **program.env},
                start_new_session=True,
            )
        self._created = created_at(self._process.pid)
        self._good = self._began = time.monotonic()
        self.health = "starting"

    def check(self) -> None:
        """Probe once and remember the result; called from the health thread."""
        process = self._process
        if process is None or self.health == "stopped":
            return
        good = self.program.probe()
        if self._process is not process or self.health not in ("starting", "ready", "unhealthy"):
            return
        if good:
            self._good = time.monotonic()
            self.health = "ready"
        elif self.health == "ready":
            self.health = "unhealthy"

    def tick(self, now: float) -> None:
        """Start what is due, notice what has ended, end what is silent for too long."""
        if self.health == "stopped":
            return
        if self._process is None:
            if now >= self._due and self.health == "waiting":
                self.start()
                self.restarts += 1
            return
        patience = self.program.start_seconds if self.health == "starting" else self.program.silent_seconds
        if self._process.poll() is not None or now - self._good > patience:
            self._ended(now)
        elif self.health == "ready" and now - self._began > CALM_SECONDS:
            self._pause = FIRST_PAUSE

    def _ended(self, now: float) -> None:
        self._end_group(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        self._process, self._created, self.health = None, None, "waiting"
        self._due = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def ask_to_stop(self) -> None:
        """Send the stop signal and start it no more."""
        self.health = "stopped"
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self.program.stop_signal)

    def wait_stopped(self) -> None:
        """Return when it and everything it started is gone; force it after its time."""
        if self._process is None:
            return
        try:
            self._process.wait(self.program.stop_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._end_group(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def _end_group(self, number: int) -> None:
        if self._process is not None:
            signal_group(self._process.pid, number)

    def state(self) -> ProcessState:
        """As it stands in state.json."""
        program = self.program
        return ProcessState(program.name, program.label, self.pid, self.health, self.restarts, self._created)


def created_at(pid: int) -> float | None:
    """When the kernel started ``pid`` (Unix seconds), None when it is gone."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def signal_group(group: int, number: int) -> None:
    """Signal every process of a group; a group that is gone is fine."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return


def group_lives(group: int) -> bool:
    """Whether any process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sweep(processes: tuple[ProcessState, ...]) -> int:
    """Kill what an earlier, killed supervisor left behind; returns how many groups were alive.

    A pid counts only with the start time noted beside it: a reused number is left alone. A group whose leader
    is gone is ours still, because the kernel reuses no number that names a group.
    """
    swept = 0
    for entry in processes:
        if entry.pid is None or entry.created is None:
            continue
        created = created_at(entry.pid)
        leader_is_ours = created is None or abs(created - entry.created) < 1.0
        if leader_is_ours and entry.created > psutil.boot_time() and group_lives(entry.pid):
            signal_group(entry.pid, signal.SIGKILL)
            swept += 1
    return swept


def _inherited() -> dict[str, str]:
    """Our own environment, but for what would have every start compile all it imports: half of the time until an engine
    is up.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
