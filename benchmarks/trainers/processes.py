"""Samples a second of a whole PPO step: two processes of one thread each, beside one process of two threads.

As ``speed``, turn about, with the same work; the processes are started by ``torchrun`` and speak over gloo. The third
are two that hold half of the base each (``HEED_TRAINING_SHARD_BASE``): each layer is gathered where a pass comes to it,
and each samples from a whole copy of its own.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results import Figure, Row
from benchmarks.trainers.children import Child, child, python_of
from benchmarks.trainers.speed import Work, rates


@dataclass(frozen=True)
class Way:
    """How many processes, and whether the base is cut up among them."""

    count: int
    shard: bool = False


WAYS = {"one": Way(1), "two": Way(2), "cut": Way(2, shard=True)}


def measured(work: Work, folder: Path) -> Iterator[Row]:
    """One row a turn. The first round is for warming up and is not told."""
    with ExitStack() as stack:
        up: list[tuple[str, Child]] = []
        for name, way in WAYS.items():
            threads = max(1, work.threads // way.count)
            log = folder / f"{name}.log"
            made = stack.enter_context(
                child(python_of("heed"), "heed_ppo", log, threads, processes=way.count)
            )
            made.ask(**work.settings() | {"threads": threads, "shard": way.shard}, advantage="gae")
            up.append((name, made))
        for number in range(work.rounds + 1):
            first = number % len(up)
            for name, made in [*up[first:], *up[:first]]:
                row = made.ask(seconds=work.seconds if number else 0.0)
                if number:
                    yield {"part": "processes", "round": number, "who": name, **row}


def figures(rows: Sequence[Row]) -> list[Figure]:
    """A line for two processes, and one for two that hold a part of the base each."""
    lines = []
    for name, how in (("two", "a core each"), ("cut", "a core each, the base cut up between them")):
        one, two = rates(rows, "one"), rates(rows, name)
        if not one or not two:
            continue
        times = [b / a for a, b in zip(one, two, strict=True)]
        middle, alone = statistics.median(times), statistics.median(one)
        lines.append(
            Figure(
                f"samples a second of a whole PPO step by two processes on gloo, {how}, {len(times)} turns in turn",
                f"{statistics.median(two):.1f}",
                f"one process on both cores {alone:.1f}: {middle:.2f} times as fast, "
                f"{min(times):.2f} to {max(times):.2f} by round; bar 1.0{_held(rows, name)}",
            )
        )
    return lines


def _held(rows: Sequence[Row], who: str) -> str:
    """How much of the base the first process held; nothing where it was all of it."""
    whole, part = (
        next((row.get("base_bytes") for row in rows if row["who"] == one), None) for one in ("one", who)
    )
    if not whole or not part or part == whole:
        return ""
    return f"; each held {part / 1e6:.1f} MB of the base between passes, the one {whole / 1e6:.1f} MB"
