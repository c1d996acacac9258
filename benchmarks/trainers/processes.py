"""Samples a second of a whole PPO step: two processes of one thread each, beside one process of two threads.

As ``speed``, turn about, with the same work; the processes are started by ``torchrun`` and speak over gloo.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.results import Figure, Row
from benchmarks.trainers.children import Child, child, python_of
from benchmarks.trainers.speed import Work, rates

WAYS = {"one": 1, "two": 2}


def measured(work: Work, folder: Path) -> Iterator[Row]:
    """One row a turn. The first round is for warming up and is not told."""
    with ExitStack() as stack:
        up: list[tuple[str, Child]] = []
        for name, count in WAYS.items():
            threads = max(1, work.threads // count)
            log = folder / f"{name}.log"
            made = stack.enter_context(child(python_of("heed"), "heed_ppo", log, threads, processes=count))
            made.ask(**work.settings() | {"threads": threads}, advantage="gae")
            up.append((name, made))
        for number in range(work.rounds + 1):
            for name, made in up if number % 2 else up[::-1]:
                row = made.ask(seconds=work.seconds if number else 0.0)
                if number:
                    yield {"part": "processes", "round": number, "who": name, **row}


def figures(rows: Sequence[Row]) -> list[Figure]:
    """One line."""
    one, two = (rates(rows, name) for name in WAYS)
    if not one or not two:
        return []
    times = [b / a for a, b in zip(one, two, strict=True)]
    return [
        Figure(
            f"samples a second of a whole PPO step by two processes on gloo, a core each, {len(times)} turns in turn",
            f"{statistics.median(two):.1f}",
            f"one process on both cores {statistics.median(one):.1f}: {statistics.median(times):.2f} times as fast, "
            f"{min(times):.2f} to {max(times):.2f} by round; bar 1.0",
        )
    ]
