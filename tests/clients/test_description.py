"""Schemathesis finds nothing wrong between /openapi.json and what the gateway does; every check is on.

What it does next in its stateful phase depends on the answers, and so on ids that are random: that phase is for
``make fuzz`` alone.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

import serve.app
from serve.description import describe
from serve.settings import GatewaySettings
from tests.clients import environment
from tests.unit.serve.running import Running

HERE = Path(__file__).parent
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "4")  # for each operation; the boundaries come on top
SEED = os.environ.get("SCHEMATHESIS_SEED")  # of new examples; absent: the same ones in every run
SAME = ("--generation-deterministic", "--seed", "1", "--phases", "examples,coverage,fuzzing")


async def schemathesis(url: str, where: Path, *more: str) -> tuple[int, str]:
    """Its exit status and what it said; it keeps its own files in ``where``."""
    command = [str(environment.made() / "bin" / "st"), "--config-file", str(HERE / "schemathesis.toml")]
    command += ["run", f"{url}/openapi.json", "--no-color", "--max-examples", EXAMPLES, *more]
    command += SAME if SEED is None else ("--seed", SEED)
    ran = await asyncio.create_subprocess_exec(
        *command,
        cwd=where,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(HERE), "SCHEMATHESIS_HOOKS": "schemathesis_hooks"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await ran.communicate()
    return ran.returncode or 0, said.decode()


async def test_what_the_description_says_is_what_the_gateway_does(up: Running, tmp_path: Path) -> None:
    status, said = await schemathesis(up.url, tmp_path)
    assert status == 0, said[-8000:]
    assert "Failures" not in said


async def test_a_description_that_is_not_true_is_found_out(
    up: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lying(app: FastAPI, settings: GatewaySettings) -> Any:
        told = describe(app, settings)
        told["components"]["schemas"]["VoteBody"]["properties"]["rating"]["enum"] = ["sideways"]
        return told

    monkeypatch.setattr(serve.app, "describe", lying)
    status, said = await schemathesis(up.url, tmp_path, "--include-path", "/v1/feedback")
    assert status == 1
    assert "Schema-valid request rejected" in said
