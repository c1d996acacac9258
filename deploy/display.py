"""The live status of `heed up`: a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from deploy.state import LaunchState

if TYPE_CHECKING:
    from rich.console import RenderableType

LOOP_SECONDS = 2.0
COLOURS = {"ready": "green", "starting": "yellow", "waiting": "yellow", "unhealthy": "red", "stopped": "dim"}


def display(state: LaunchState) -> Callable[[LaunchState], None]:
    """What shows ``state`` as it changes; prints the page's address at once."""
    return _Table(state) if sys.stdout.isatty() else _Lines(state)


class _Lines:
    """A line when something changes, for logs and pipes."""

    def __init__(self, state: LaunchState) -> None:
        self._began = time.monotonic()
        self._seen: dict[str, tuple[str, int]] = {}
        print(f"Heed: {state.url}  (data in {state.data_dir}; Ctrl-C stops everything)", flush=True)

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
            shown = Text(entry.state, style=COLOURS.get(entry.state, ""))
            table.add_row(entry.label, shown, str(entry.pid or ""), restarts)
        return Group(table, Text(describe_loop(self._loop.newest), style="dim"))


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
    said = []
    for key, words in (
        ("live", "live"),
        ("waiting_votes", "votes waiting"),
        ("step", "step"),
        ("freshness_seconds", "freshness"),
    ):
        if loop.get(key) is not None:
            said.append(f"{words} {loop[key]}")
    return " · ".join(said) or "no round has run yet"
