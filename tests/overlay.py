"""Environments of packages that only a few tests want, over those of the main environment.

One holds only what the main environment does not (see ``deploy/lock.sh``), so it is made in seconds, and anew when its
lock changes or the main environment has moved.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

from tests.servers import ROOT


def made(home: Path, lock: Path, *instead: str) -> Path:
    """The interpreter of the environment in ``home``; ``instead`` replaces packages of the lock, as ``name==version``.

    Raises CalledProcessError when it cannot be made.
    """
    python, stamp = home / "bin" / "python", home / "stamp"
    below = [os.path.realpath(folder) for folder in site.getsitepackages()]
    locked = hashlib.sha256(lock.read_bytes() + " ".join([*instead, *below]).encode()).hexdigest()
    if not stamp.exists() or stamp.read_text() != locked:
        shutil.rmtree(home, ignore_errors=True)
        uv = str(ROOT / ".venv" / "bin" / "uv")
        _do([uv, "venv", "--quiet", "--python", sys.executable, str(home)])
        install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python)]
        _do([*install, "-r", str(lock)])
        if instead:
            _do([*install, *instead])
        (own,) = home.glob("lib/python*/site-packages")
        (own / "main.pth").write_text("\n".join(below) + "\n")
        stamp.write_text(locked)
    return python


def _do(command: list[str]) -> None:
    """Certificates that pip was given serve uv too, which does not read pip's settings."""
    certificates = {"SSL_CERT_FILE": os.environ["PIP_CERT"]} if "PIP_CERT" in os.environ else {}
    subprocess.run(command, cwd=ROOT, check=True, env={**certificates, **os.environ})
