"""The live status of `heed up`: a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.state import LaunchState, ProcessState

if TYPE_CHECKING:
    from rich.console import RenderableType

LOOP_SECONDS = 2.0
TROUBLE = 2  # restarts from which the end of the log is shown
COLOURS = {"ready": "green", "starting": "yellow", "waiting": "yellow", "unhealthy": "red", "stopped": "dim"}


def display(state: LaunchState) -> Callable[[LaunchState], None]:
    """What shows ``state`` as it changes; prints the page's address at once."""
    return _Table(state) if sys.stdout.isatty() else _Lines(state)


class _Lines:
    """A line when something changes, for logs and pipes."""

    def __init__(self, state: LaunchState) -> None:
        self._began = time.monotonic()
        self._seen: dict[str, tuple[str, int]] = {}
        # In one piece, also where nothing is buffered: who has read the address may leave.
        sys.stdout.write(f"Heed: {state.url}  (data in {state.data_dir}; Ctrl-C stops everything)\n")
        sys.stdout.flush()

    def __call__(self, state: LaunchState) -> None:
        for entry in state.processes:
            now = (entry.state, entry.restarts)
            if self._seen.get(entry.label) == now:
                continue
            self._seen[entry.label] = now
            restarts = f", restart {entry.restarts}" if entry.restarts else ""
            pid = f" (pid {entry.pid})" if entry.pid else ""
            seconds = time.monotonic() - self._began
            print(f"{seconds:7.1f} s  {entry.label} {entry.state}{restarts}{pid}", flush=True)
            if entry.state == "waiting" and entry.restarts + 1 >= TROUBLE:
                print(f"           {last_words(state, entry)}", flush=True)


class _Table:
    """A table that is drawn anew in place, with the loop's state under it."""

    def __init__(self, state: LaunchState) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console()
        self._console.print(
            f"[bold]Heed[/bold]  [link={state.url}]{state.url}[/link]  data in {state.data_dir}"
        )
        self._loop = LoopWatch(state.url)
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._live.start()
        self._drawn = 0.0

    def __call__(self, state: LaunchState) -> None:
        now = time.monotonic()
        ended = bool(state.processes) and all(entry.state == "stopped" for entry in state.processes)
        if now - self._drawn < 0.5 and not ended:
            return
        self._drawn = now
        self._live.update(self._draw(state), refresh=True)
        if ended and all(entry.pid is None for entry in state.processes):
            self._live.stop()

    def _draw(self, state: LaunchState) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, show_header=False)
        for entry in state.processes:
            restarts = f"{entry.restarts} restarts" if entry.restarts else ""
            if entry.restarts >= TROUBLE and entry.state != "ready":
                restarts += f": {last_words(state, entry)}"
            shown = Text(entry.state, style=COLOURS.get(entry.state, ""))
            table.add_row(entry.label, shown, str(entry.pid or ""), restarts)
        return Group(table, Text(describe_loop(self._loop.newest), style="dim"))


def last_words(state: LaunchState, entry: ProcessState) -> str:
    """The newest line of a process's log, and where to read on. Logs hold no secrets and no one's words."""
    log = Path(state.data_dir) / "logs" / f"{entry.label}.log"
    try:
        with log.open("rb") as source:
            source.seek(max(0, log.stat().st_size - 4096))
            lines = source.read().decode(errors="replace").split("\n")
    except OSError:
        return f"see {log}"
    newest = next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return f"{newest[:200]}  (see {log})"


class LoopWatch:
    """Asks the gateway for GET /v1/loop now and then, in a thread of its own."""

    def __init__(self, url: str) -> None:
        self.newest: Mapping[str, Any] = {}
        self._url = url
        threading.Thread(target=self._watch, name="loop-watch", daemon=True).start()

    def _watch(self) -> None:
        from deploy.client import Client
        from deploy.errors import DeployError

        client = Client(self._url, seconds=3.0)
        while True:
            try:
                self.newest = client.get("/v1/loop")
            except DeployError:
                self.newest = {}
            time.sleep(LOOP_SECONDS)


def describe_loop(loop: Mapping[str, Any]) -> str:
    """The loop in one line; the address to look at when nothing is known yet."""
    if not loop:
        return "the page answers; the loop has not reported yet"
    said = [f"serves {loop.get('live') or 'base'}"]
    if loop.get("waiting_votes"):
        said.append(f"{loop['waiting_votes']} votes wait")
    if loop.get("step"):
        said.append(f"{loop['step']} {float(loop.get('progress') or 0.0):.0%}")
    elif loop.get("last_round"):
        said.append(f"last round: {loop['last_round'].get('reason') or loop['last_round'].get('verdict')}")
    if loop.get("freshness_seconds") is not None:
        said.append(f"freshness {float(loop['freshness_seconds']):.0f} s")
    return " · ".join(said)
