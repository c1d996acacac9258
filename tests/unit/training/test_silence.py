"""A round that is silent for too long ends its process, tells why, and its lease passes on."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from feedback.memory import MemoryRegistry
from training.heartbeat import heartbeat
from training.silence import EXIT, Silence


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that pass only when told."""
    told = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: told[0])
    return told


def test_silence_ends_the_process_only_when_it_has_lasted_too_long(now: list[float]) -> None:
    ended: list[int] = []
    said: list[str] = []
    silence = Silence(60.0, ended.append)
    now[0] += 60
    silence.check(said.append)
    assert (ended, said) == ([], [])
    silence.heard()
    now[0] += 60.5
    silence.check(said.append)
    assert ended == [EXIT]
    assert said == ["no sign of work for 60 s, at most 60: the process ends"]


def test_it_may_be_silent_for_ever_where_that_is_wished(now: list[float]) -> None:
    ended: list[int] = []
    silence = Silence(0.0, ended.append)
    now[0] += 1e9
    silence.check(lambda _: None)
    assert ended == []


def test_a_word_that_cannot_be_told_does_not_keep_the_process(now: list[float]) -> None:
    ended: list[int] = []

    def broken(_: str) -> None:
        raise OSError("the disk is gone")

    silence = Silence(1.0, ended.append)
    now[0] += 2
    with pytest.raises(OSError, match="the disk is gone"):
        silence.check(broken)
    assert ended == [EXIT]


def beaten(registry: MemoryRegistry, silence: Silence, until: Callable[[], bool]) -> bool:
    """Hold a lease of 30 ms until something is true; whether it became so within a minute."""
    with heartbeat(registry, "round:heed", "me", 0.03, silence):
        deadline = time.perf_counter() + 60
        while not until() and time.perf_counter() < deadline:
            time.sleep(0.005)
        return until()


def test_the_heartbeat_of_a_round_that_hangs_tells_and_ends_it() -> None:
    registry, ended = MemoryRegistry(), threading.Event()
    silence = Silence(0.05, lambda _status: ended.set())
    assert beaten(registry, silence, ended.is_set)
    assert "no sign of work for" in registry.loop("_workers")["round"]["why"]


def test_the_heartbeat_of_a_round_that_works_goes_on() -> None:
    registry, ended, beats = MemoryRegistry(), threading.Event(), [0]
    silence = Silence(1e6, lambda _status: ended.set())

    def three() -> bool:
        beats[0] += bool(registry.loop("_workers").get("training"))
        return beats[0] > 3

    assert beaten(registry, silence, three)
    assert not ended.is_set()
    assert not registry.held("round:heed")


def test_a_process_whose_main_thread_hangs_is_ended_from_its_heartbeat() -> None:
    code = (
        "import time\n"
        "from feedback.memory import MemoryRegistry\n"
        "from training.heartbeat import heartbeat\n"
        "from training.silence import Silence\n"
        "with heartbeat(MemoryRegistry(), 'round:heed', 'me', 0.03, Silence(0.2)):\n"
        "    time.sleep(600)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=False
    )
    assert run.returncode == EXIT
    assert "no sign of work" in run.stderr
