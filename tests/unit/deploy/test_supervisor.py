"""The supervisor's own loop: a signal at any moment ends it."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from deploy import supervisor
from deploy.state import LaunchState
from deploy.supervisor import Supervisor

STATE = LaunchState(
    url="http://127.0.0.1:8080", redis_url="redis://127.0.0.1:1/0", broker_url="redis://127.0.0.1:1/1",
    engine_urls=(), engine_key="key", supervisor_pid=1, data_dir="/data", started=1.5,
)  # fmt: skip


def test_a_stop_signal_at_any_moment_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it begins or ends its wait between two looks, of which there are many here. The clock's signal stands
    for those that people send: it comes by itself.
    """
    monkeypatch.setattr(supervisor, "STOP_SIGNALS", (signal.SIGALRM,))
    monkeypatch.setattr(supervisor, "TICK_SECONDS", 1e-6)
    monkeypatch.setattr(supervisor, "PROBE_SECONDS", 60.0)
    draw = random.Random(1)
    for _ in range(2000):
        looks: list[object] = []

        def look(processes: object, looks: list[object] = looks) -> None:
            if not looks:  # only now the signal is heard
                signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-5, 1e-3))
            looks.append(processes)

        Supervisor(STATE, tmp_path, tmp_path).run(look)
        assert looks
