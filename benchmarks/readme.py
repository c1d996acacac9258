"""The README's table of figures, made of the files in results/ and of nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import cast

from benchmarks.results import ROOT, Benchmark, Figure, Result, described, load

README = ROOT / "README.md"
BEGIN = "<!-- figures: written by `python -m benchmarks --readme` -->"
END = "<!-- /figures -->"
NAMES = (
    "start", "loop", "freshness", "rounds", "kills", "gateway", "failover", "disconnects", "swaps", "changes", "votes",
    "ledger", "forgeries", "redis_memory", "batching", "training", "gate", "overload", "clients", "poison", "forget",
)  # fmt: skip


def benchmark(name: str) -> Benchmark:
    """The module of that name."""
    return cast("Benchmark", importlib.import_module(f"benchmarks.{name}"))


def shown(result: Result) -> list[Figure]:
    """What the README shows of a run."""
    return benchmark(result.benchmark).figures(result.rows)


def rendered(results: Sequence[tuple[Result, Sequence[Figure]]]) -> str:
    """The part of the README between the markers: a table for each machine, the one with most figures first."""
    by_machine: dict[str, list[str]] = {}
    for result, figures in results:
        for one in figures:
            by_machine.setdefault(one.machine or described(result.machine), []).append(
                f"| {one.what} | {one.heed} | {one.beside} | `{result.command}` |"
            )
    tables = sorted(by_machine.items(), key=lambda pair: -len(pair[1]))
    head = ["| what | Heed | beside it | command |", "| --- | --- | --- | --- |"]
    return "\n\n".join("\n".join([f"Measured on {machine}:", "", *head, *lines]) for machine, lines in tables)


def replaced(text: str, table: str) -> str:
    """``text`` with ``table`` between its markers. Raises ValueError when it does not have both once."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise ValueError(f"the README must hold {BEGIN!r} and {END!r} once each, in this order")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def current(names: Iterable[str] = NAMES) -> str:
    """The table as the files in results/ have it now."""
    results = [result for name in names if (result := load(name)) is not None]
    return rendered([(result, shown(result)) for result in results])


def rewrite() -> None:
    """Bring the README up to date with the files in results/."""
    README.write_text(replaced(README.read_text(), current()))
