"""Runs the benchmarks that are named, or all: ``make bench ARGS="start swaps"``.

Each run is written to benchmarks/results/<name>.json with the facts of the machine, and the table of the README
is made anew of these files. ``python -m benchmarks --readme`` does only that.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

from benchmarks.readme import NAMES, benchmark, rewrite, shown
from benchmarks.results import Result, save


def measure(name: str) -> Result:
    """Run one benchmark as the README quotes it, and keep what it showed."""
    module, began = benchmark(name), time.monotonic()
    print(f"{name}: {module.DESCRIPTION}", file=sys.stderr, flush=True)
    return save(name, module.run([]), began)


def show(result: Result) -> None:
    """The lines of the README that come of a run."""
    table = Table("what", "Heed", "beside it", title=f"{result.benchmark}, {result.seconds:.0f} s")
    for figure in shown(result):
        table.add_row(figure.what, figure.heed, figure.beside)
    Console().print(table)


def main() -> int:
    """Parse, run, print. A benchmark that fails leaves its old figures and lets the others run."""
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="name", help=f"{', '.join(NAMES)}; none: all")
    parser.add_argument("--readme", action="store_true", help="only make the README's table anew")
    told = parser.parse_args()
    if unknown := set(told.names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    failed = []
    for name in [] if told.readme else told.names or NAMES:
        try:
            show(measure(name))
        except (AssertionError, OSError, RuntimeError, subprocess.SubprocessError) as error:
            print(f"{name} failed: {error}", file=sys.stderr)
            failed.append(name)
    rewrite()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
