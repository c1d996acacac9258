"""The loop and experiments by hand, from the command line, on a real engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.adapters import random_adapter
from tests.servers import ROOT, answers, free_port, process, wait_until

HEED = [sys.executable, "-m", "deploy.cli"]


def test_an_adapter_is_imported_tried_promoted_and_rolled_back_by_hand(
    tmp_path: Path, engine_url: str
) -> None:
    data, port, log = tmp_path / "data", free_port(), tmp_path / "up.log"
    env = {**os.environ, "HEED_DATA_DIR": str(data)}

    def heed(*arguments: str) -> str:
        command = [*HEED, *arguments]
        ran = subprocess.run(
            command, capture_output=True, text=True, env=env, cwd=ROOT, check=False, timeout=300
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    folder = random_adapter(tmp_path / "made", seed=1)
    up = [*HEED, "up", "--port", str(port), "--engine-url", engine_url, "--no-worker"]
    with process(up, log, {"HEED_DATA_DIR": str(data)}):
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/readyz"), 180, "the gateway", log)
        made = json.loads(heed("adapters", "import", str(folder), "--json"))["id"]
        assert not list(data.glob("import-*"))
        assert made in heed("adapters", "list")
        wait_until(
            lambda: json.loads(heed("adapters", "show", made, "--json"))["engines_ready"] != [],
            180,
            "the proof",
            log,
        )
        arms = ("--arm", "control=base:0.9", "--arm", f"new={made}:0.1")
        heed("experiments", "create", "try-1", *arms)
        heed("experiments", "ramp", "try-1", "--share", "control=0.5", "--share", "new=0.5")
        report = json.loads(heed("experiments", "report", "try-1", "--json"))
        assert {arm["name"] for arm in report["arms"]} == {"control", "new"}
        assert "control" in heed("experiments", "report", "try-1")
        heed("experiments", "stop", "try-1", "--reason", "seen enough")
        assert "stopped" in heed("experiments", "list")
        heed("adapters", "promote", made, "--reason", "by hand")
        assert json.loads(heed("status", "--json"))["live"] == {"heed": made}
        heed("rollback", "--reason", "by hand")
        assert json.loads(heed("status", "--json"))["live"] == {"heed": "base"}
        heed("aliases", "set", "heed", "--mode", "approve", "--criterion", "helpful=2")
        assert json.loads(heed("aliases", "list", "--json"))["data"][0]["criteria"] == {"helpful": 2.0}
