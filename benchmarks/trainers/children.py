"""A trainer's process as its parent has it, and where each peer's environment is.

    python -m benchmarks.trainers.children

makes the environments that are missing: TRL over the packages of the main one, so that torch, transformers and
PEFT are the same for all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.results import ROOT, Row
from benchmarks.wire.peers import Absent, last_line
from tests.servers import stop_group
from tests.trainers import environment

OLD = "trl==1.12.0"  # the last with PPO
PYTHONS = {"heed": "", "trl": "", "trl-1.12": OLD}
PROGRAMS = "benchmarks.trainers.programs"


def python_of(name: str) -> str:
    """The interpreter of an environment, made when it is missing. Raises Absent."""
    if name == "heed":
        return sys.executable
    try:
        instead = PYTHONS[name]
        if not instead:
            return str(environment.made())
        return str(environment.made(ROOT / ".venv" / "peers" / instead.replace("==", "-"), instead))
    except subprocess.CalledProcessError as error:
        raise Absent(f"{name} could not be installed: {last_line(error.stderr or b'')}") from error


class Child:
    """Speaks JSON lines with a program."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process, self._log = process, log

    def ask(self, **row: Any) -> Row:
        """Say a line and wait for the answer. Raises RuntimeError with the end of its log when it has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(row) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise RuntimeError(self._last_words()) from error
        return self.hear()

    def hear(self) -> Row:
        """The next line that it says. Raises RuntimeError when it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(self._last_words())
        told: Row = json.loads(line)
        return told

    def _last_words(self) -> str:
        return f"{self._log.stem} ended\n{self._log.read_text(errors='replace')[-3000:]}"


@contextmanager
def child(
    python: str, program: str, log: Path, threads: int, beside: Path = ROOT, *, processes: int = 1
) -> Iterator[Child]:
    """The program of that name under this interpreter, whose modules lie here or ``beside``; gone at the end. The first
    of several processes speaks.
    """
    together = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(beside), str(ROOT)]),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": str(threads),
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }
    with log.open("w") as sink:
        process = subprocess.Popen(
            [python, *(together if processes > 1 else []), "-m", f"{PROGRAMS}.{program}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
            env=env,
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        yield Child(process, log)
    finally:
        stop_group(process)


if __name__ == "__main__":
    for each in PYTHONS:
        print(each, python_of(each))
