from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deploy.child import LEASH, Child, Program, created_at, group_lives, sweep
from deploy.state import ProcessState

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")


def soon(what: Callable[[], bool]) -> bool:
    """Whether it becomes true within a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.02)
    return False


def program(*command: str, probe: Callable[[], bool] = lambda: True, **more: float) -> Program:
    return Program(name="worker", label="one", command=command or SLEEP, probe=probe, **more)  # type: ignore[arg-type]


def test_a_good_probe_makes_it_ready_and_a_stop_ends_it(tmp_path: Path) -> None:
    child = Child(program(), tmp_path)
    child.start()
    assert child.health == "starting"
    child.check()
    assert child.health == "ready"
    pid = child.pid
    child.ask_to_stop()
    child.wait_stopped()
    assert child.state() == ProcessState("worker", "one", None, "stopped", 0, child.state().created)
    assert pid is not None
    assert not psutil.pid_exists(pid)


def test_it_keeps_what_it_compiled_whatever_this_process_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("HEED_OF_THE_TEST", "here")
    told = tmp_path / "told"
    say = f"open({str(told)!r}, 'w').write"
    says = f"import os, sys; {say}(f'{{sys.dont_write_bytecode}} ' + os.environ['HEED_OF_THE_TEST'])"
    child = Child(program(sys.executable, "-c", says), tmp_path)
    child.start()
    assert soon(lambda: told.exists() and told.read_text() == "False here")
    child.ask_to_stop()
    child.wait_stopped()


def test_an_ended_process_is_started_again_after_a_pause_that_doubles(tmp_path: Path) -> None:
    child = Child(program(sys.executable, "-c", "pass"), tmp_path)
    child.start()
    pauses = []
    now = 1000.0
    for _ in range(8):
        assert soon(lambda: child._process is None or child._process.poll() is not None)
        child.tick(now)
        assert child.health == "waiting"
        pauses.append(child._due - now)
        child.tick(child._due - 0.01)
        assert child.pid is None
        now = child._due
        child.tick(now)
        assert child.pid is not None
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert child.restarts == 8
    child.ask_to_stop()
    child.wait_stopped()


def test_one_that_is_silent_too_long_is_killed_with_all_it_started(tmp_path: Path) -> None:
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(600)']"
    family = f"import subprocess, sys, time; subprocess.Popen({sleeper}); time.sleep(600)"
    child = Child(program(sys.executable, "-c", family, probe=lambda: False, start_seconds=90.0), tmp_path)
    child.start()
    group = child.pid
    assert group is not None
    assert soon(lambda: len(psutil.Process(group).children()) == 1)
    grandchild = psutil.Process(group).children()[0]
    child.check()
    child.tick(time.monotonic())
    assert child.pid == group
    child.tick(time.monotonic() + 91.0)
    assert child.health == "waiting"
    assert soon(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


def test_one_that_ignores_the_stop_signal_is_killed(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    child = Child(program(sys.executable, "-c", deaf, stop_seconds=0.2), tmp_path)
    child.start()
    assert soon(lambda: "up" in child.log.read_text())
    group = child.pid
    child.ask_to_stop()
    child.wait_stopped()
    assert group is not None
    assert not group_lives(group)


def test_its_output_goes_to_a_private_log_that_is_rotated_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.child.LOG_BYTES", 10)
    child = Child(program(sys.executable, "-c", "print('x' * 20)"), tmp_path)
    child.start()
    assert soon(lambda: child.log.exists() and child.log.read_text().strip() == "x" * 20)
    clock = itertools.count(1.0)
    assert soon(lambda: child.tick(next(clock)) or child.log.with_suffix(".log.1").exists())
    assert oct(child.log.stat().st_mode & 0o777) == "0o600"
    child.ask_to_stop()
    child.wait_stopped()


def test_the_leash_ends_a_program_whose_supervisor_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    inner = (
        f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(600)"
    )
    outer = (
        "import os, subprocess, sys, time; "
        f"subprocess.Popen([sys.executable, '-I', '-S', {str(LEASH)!r}, str(os.getpid()), '15', '5', "
        f"sys.executable, '-c', {inner!r}], start_new_session=True); time.sleep(600)"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", outer])
    assert soon(lambda: note.exists() and note.read_text() != "")
    leashed = psutil.Process(int(note.read_text()))
    assert leashed.nice() == psutil.Process().nice() + 5
    group = Path(f"/proc/{leashed.pid}/autogroup")  # where sessions are scheduled as groups, theirs counts
    assert not group.exists() or group.read_text().split()[-1] == "5"
    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait()
    assert soon(lambda: not leashed.is_running())


def test_sweeping_kills_what_was_left_behind_and_spares_a_reused_number(tmp_path: Path) -> None:
    ours, strangers = (subprocess.Popen(SLEEP, start_new_session=True) for _ in range(2))
    made = created_at(ours.pid)
    left = (
        ProcessState("engine", "engine", ours.pid, "ready", 0, made),
        ProcessState("redis", "redis", strangers.pid, "ready", 0, (created_at(strangers.pid) or 0.0) - 100.0),
        ProcessState("beat", "beat", None, "waiting", 0, None),
    )
    try:
        assert sweep(left) == 1
        assert ours.wait(60) == -signal.SIGKILL
        assert strangers.poll() is None
    finally:
        os.killpg(strangers.pid, signal.SIGKILL)
        strangers.wait()
