"""The whole loop on real parts: chats and votes go in over HTTP, a better adapter comes out and serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT, answers, free_port, process, wait_until

HEED = [sys.executable, "-m", "deploy.cli"]


def heed(data: Path, *arguments: str, seconds: float = 1200.0) -> subprocess.CompletedProcess[str]:
    """Run one command of the command line against the running Heed."""
    env = {**os.environ, "HEED_DATA_DIR": str(data)}
    return subprocess.run(
        [*HEED, *arguments], capture_output=True, text=True, timeout=seconds, env=env, cwd=ROOT, check=False
    )


@pytest.mark.e2e
@pytest.mark.timeout(3000)
def test_votes_become_a_live_adapter_with_no_failed_request(tmp_path: Path) -> None:
    data, port = tmp_path / "data", free_port()
    url = f"http://127.0.0.1:{port}"
    env = {"HEED_DATA_DIR": str(data), "HEED_REVIEW_STAGE_SECONDS": "3"}
    log = tmp_path / "up.log"
    with process([*HEED, "up", "--port", str(port)], log, env):
        wait_until(lambda: answers(f"{url}/healthz"), 180, "the gateway", log)
        wait_until(lambda: answers(f"{url}/readyz"), 420, "the engine", log)
        figures_file = tmp_path / "simulate.json"
        crowd = ("--users", "8", "--votes", "400", "--preference", "polite_helpful", "--noise", "0.1")
        ran = heed(data, "simulate", *crowd, "--seed", "1", "--json", str(figures_file))
        assert ran.returncode == 0, ran.stdout + ran.stderr
        figures = json.loads(figures_file.read_text())
        assert figures["failed_requests"] == 0
        assert figures["votes"] == 400
        wait_until(
            lambda: live_adapter(data) is not None, 1200, "a live adapter", data / "logs" / "worker.log"
        )
        shown = heed(data, "adapters", "show", live_adapter(data) or "")
        assert shown.returncode == 0
        assert "live" in shown.stdout
        status = json.loads(heed(data, "status", "--json").stdout)
        assert status["ready"] is True
        assert {entry["name"] for entry in status["processes"]} == {
            "gateway",
            "engine",
            "redis",
            "worker",
            "beat",
        }
        assert all(entry["restarts"] == 0 for entry in status["processes"])
    assert not answers(f"{url}/healthz")


def live_adapter(data: Path) -> str | None:
    """The id of the live adapter, None while it is the base."""
    ran = heed(data, "status", "--json", seconds=180)
    live = json.loads(ran.stdout)["live"] if ran.returncode == 0 else None
    if isinstance(live, dict):
        live = live.get("heed")
    return live if live and live.startswith("a-") else None
