"""A launch that outlives its terminal, and the end of one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from deploy.errors import AlreadyRunning, CannotStart, NotRunning
from deploy.preflight import check_data_dir
from deploy.probes import http_ok
from deploy.settings import LaunchSettings
from deploy.state import LaunchState, locked, read_state, running_state

START_SECONDS, STOP_SECONDS = 60.0, 90.0


def start_detached(settings: LaunchSettings, arguments: Sequence[str]) -> str:
    """Start the same command in a session of its own; return once its page answers.

    Raises CannotStart with the supervisor's own words when it ends before that.
    """
    check_data_dir(settings.root)
    if locked(settings.run_dir):
        state = read_state(settings.run_dir)
        raise AlreadyRunning(
            str(settings.root), state.supervisor_pid if state else None, state.url if state else None
        )
    settings.logs_dir.mkdir(parents=True, exist_ok=True)
    log = settings.logs_dir / "supervisor.log"
    command = [sys.executable, "-m", "deploy.cli", *(part for part in arguments if part != "--detach")]
    with log.open("wb") as sink:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
        )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        state = read_state(settings.run_dir)
        if state is not None and state.supervisor_pid == child.pid and http_ok(f"{state.url}/healthz", 2.0):
            return f"Heed: {state.url} (pid {child.pid}; `heed status` looks, `heed down` stops it)"
        time.sleep(0.1)
    said = log.read_text(errors="replace").strip().removeprefix("heed: ")
    if child.poll() is None:
        os.kill(child.pid, signal.SIGTERM)
    raise CannotStart(f"the launch did not come up: {said[-600:]}", f"look into {settings.logs_dir}")


def stop_running(settings: LaunchSettings) -> str:
    """Stop the launch of the data directory and wait until it is gone. Raises NotRunning."""
    state = running_state(settings.run_dir)
    try:
        os.kill(state.supervisor_pid, signal.SIGTERM)
    except ProcessLookupError as error:
        raise NotRunning(f"in {settings.root}") from error
    deadline = time.monotonic() + STOP_SECONDS
    while locked(settings.run_dir) and time.monotonic() < deadline:
        time.sleep(0.1)
    if locked(settings.run_dir):
        return _still(state)
    return f"stopped Heed at {state.url}"


def _still(state: LaunchState) -> str:
    return f"Heed (pid {state.supervisor_pid}) has been told to stop and is still at it"
