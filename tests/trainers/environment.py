"""Runs the trainers' program in ``.venv/trainers``: TRL and ``datasets`` over the packages of the main environment.

    python -m tests.trainers.environment

makes it.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests import overlay
from tests.servers import ROOT

HOME = ROOT / ".venv" / "trainers"
LOCK = ROOT / "locks" / "trainers.txt"
PROGRAM = Path(__file__).parent / "programs" / "one_step.py"
MOST_SECONDS = 540.0


def made(home: Path = HOME, *instead: str) -> Path:
    """The environment's interpreter; ``instead`` as in ``overlay.made``."""
    return overlay.made(home, LOCK, *instead)


def run(data: Path, work: Path) -> dict[str, Any]:
    """What each trainer came to on the files in ``data``, by its name. ``work`` is left with their outputs."""
    ran = subprocess.run(
        [str(made()), str(PROGRAM), str(data), str(work)],
        cwd=work,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(work),
            "HF_HOME": str(work / "hub"),
            "HF_HUB_OFFLINE": "1",
            "HEED_STARTER": str(ROOT / "deploy" / "starter"),
            "TOKENIZERS_PARALLELISM": "false",
        },
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )
    if ran.returncode != 0:
        raise AssertionError(f"the trainers ended with {ran.returncode}\n{ran.stderr[-4000:]}")
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return told


if __name__ == "__main__":
    made()
