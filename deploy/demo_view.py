"""What the demo shows while it runs: votes, the loop's step, and a line for each thing that happens."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from deploy.picture import Point, short


class View:
    """Progress bars on a terminal; elsewhere only the lines."""

    def __init__(self, votes: int) -> None:
        self._console = Console()
        columns = (
            TextColumn("{task.description:<24}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._votes = self._progress.add_task("votes", total=votes, note="")
        self._loop = self._progress.add_task("loop", total=1.0, note="waiting")
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def says(self, line: str) -> None:
        """One line with the time it happened."""
        seconds = time.monotonic() - self._began
        self._console.print(f"{seconds:6.1f} s  {line}", highlight=False, markup=False)

    def votes(self, count: int) -> None:
        """How many votes are in."""
        self._progress.update(self._votes, completed=count, note=f"{count}")

    def loop(self, state: Mapping[str, Any]) -> None:
        """The step that runs and how far it is."""
        step, progress = state.get("step") or "waiting", state.get("progress") or 0.0
        self._progress.update(self._loop, completed=float(progress), note=str(step))

    def table(self, points: Sequence[Point]) -> None:
        """Quality before and after."""
        table = Table(title="Held-out prompts, live adapter against the base")
        for heading in ("votes", "adapter", "wins", "95 % interval", "score", "base's", "vote → live"):
            table.add_column(heading, justify="right", no_wrap=True)
        for point in points:
            quality = point.quality
            table.add_row(
                str(point.votes),
                short(point.adapter),
                f"{quality.win_rate:.1%}",
                f"{quality.lower:.0%} – {quality.upper:.0%}",
                f"{quality.mean_score:.2f}",
                f"{quality.base_score:.2f}",
                "-" if point.freshness is None else f"{point.freshness:.0f} s",
            )
        self._console.print(table)
