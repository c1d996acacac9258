from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.terminal import belonging_to, terminal
from tests.servers import wait_until

WAITS = "import time; print('up', flush=True); time.sleep(600)"


def test_what_ctrl_c_does_not_end_is_found_as_left_behind(tmp_path: Path) -> None:
    # Ctrl-C sends INT, the end of the session's leader HUP.
    both = f"""(trap '' INT HUP; exec {sys.executable} -c "{WAITS}") & {sys.executable} -c "{WAITS}\""""
    log = tmp_path / "log"
    with terminal(["bash", "-c", both], tmp_path, os.environ, log) as window:
        wait_until(lambda: log.exists() and log.read_text().count("up") == 2, 20, "both", log)
        assert len(belonging_to(tmp_path)) == 3
        window.press_ctrl_c()
        window.process.wait(20)
        assert len(belonging_to(tmp_path)) == 1
    wait_until(lambda: belonging_to(tmp_path) == set(), 20, "the end of all", log)


@pytest.mark.parametrize("told_by", ["folder", "argument", "environment"])
def test_a_process_is_found_by_its_folder_its_arguments_or_its_environment(
    tmp_path: Path, told_by: str
) -> None:
    command = [sys.executable, "-c", WAITS, *([str(tmp_path)] if told_by == "argument" else [])]
    env = {**os.environ, "SAID": str(tmp_path) if told_by == "environment" else ""}
    log = tmp_path / "log"
    with terminal(command, tmp_path if told_by == "folder" else Path("/"), env, log) as window:
        wait_until(lambda: log.exists() and "up" in log.read_text(), 20, "the process", log)
        assert belonging_to(tmp_path) == {window.process.pid}
        window.press_ctrl_c()
        window.process.wait(20)
        assert belonging_to(tmp_path) == set()
