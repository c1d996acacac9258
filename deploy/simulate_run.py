"""`heed simulate` in the terminal: the crowd with a progress bar, its figures at the end."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from deploy.simulate import Crowd, CrowdSettings, Figures


def run_crowd(settings: CrowdSettings, json_file: Path | None) -> bool:
    """Run the crowd; whether all votes were acknowledged."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"votes for {settings.preference}", total=settings.votes)
        crowd = Crowd(settings, on_vote=lambda figures: progress.update(task, completed=figures.votes))
        figures = asyncio.run(crowd.run())
    if json_file is not None:
        json_file.write_text(json.dumps(figures.as_dict(), indent=1))
    for line in lines(figures):
        console.print(line, highlight=False)
    return figures.votes >= settings.votes


def lines(figures: Figures) -> list[str]:
    """The figures for people."""
    thumbs = f"{figures.thumbs_up} up, {figures.thumbs_down} down"
    compared = f"{figures.comparisons} comparisons ({figures.ties} ties)"
    said = [
        f"{figures.votes} votes in {figures.seconds:.0f} s: {thumbs}, {compared}, {figures.spooled} spooled",
        f"{figures.failed_requests} failed requests",
    ]
    if figures.ttft_p50 is not None and figures.ttft_p95 is not None:
        said.append(f"first token p50 {1000 * figures.ttft_p50:.0f} ms, p95 {1000 * figures.ttft_p95:.0f} ms")
    said += [f"  failed: {failure}" for failure in figures.failures]
    said += [
        f"  after {entry['seconds']} s and {entry['votes']} votes {entry['adapter']} served"
        for entry in figures.adapter_timeline
    ]
    return said
