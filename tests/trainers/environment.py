"""Runs the trainers' program in ``.venv/trainers``: TRL and ``datasets`` over the packages of the main environment.

    python -m tests.trainers.environment

makes it. It holds only what the main environment does not (see ``deploy/lock.sh``), so it is made in a second, and
anew when its lock changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import site
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.servers import ROOT

HOME = ROOT / ".venv" / "trainers"
LOCK = ROOT / "locks" / "trainers.txt"
PROGRAM = Path(__file__).parent / "programs" / "one_step.py"
MOST_SECONDS = 540.0


def made(home: Path = HOME, *instead: str) -> Path:
    """The environment's interpreter; ``instead`` replaces packages of the lock, as ``name==version``.

    Raises CalledProcessError when it cannot be made.
    """
    python, stamp = home / "bin" / "python", home / "stamp"
    locked = hashlib.sha256(LOCK.read_bytes() + " ".join(instead).encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != locked:
        shutil.rmtree(home, ignore_errors=True)
        uv = str(ROOT / ".venv" / "bin" / "uv")
        _do([uv, "venv", "--quiet", "--python", sys.executable, str(home)])
        install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python)]
        _do([*install, "-r", str(LOCK)])
        if instead:
            _do([*install, *instead])
        (own,) = home.glob("lib/python*/site-packages")
        (own / "main.pth").write_text("\n".join(site.getsitepackages()) + "\n")
        stamp.write_text(locked)
    return python


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


def _do(command: list[str]) -> None:
    """Certificates that pip was given serve uv too, which does not read pip's settings."""
    certificates = {"SSL_CERT_FILE": os.environ["PIP_CERT"]} if "PIP_CERT" in os.environ else {}
    subprocess.run(command, cwd=ROOT, check=True, env={**certificates, **os.environ})


if __name__ == "__main__":
    made()
