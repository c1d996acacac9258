from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path

import pytest

from deploy.errors import AlreadyRunning, NotRunning
from deploy.state import (
    LaunchState,
    ProcessState,
    hold,
    locked,
    read_state,
    running_state,
    state_file,
    write_state,
)

STATE = LaunchState(
    url="http://127.0.0.1:8080",
    redis_url="redis://:secret@127.0.0.1:1234/0",
    broker_url="redis://:secret@127.0.0.1:1234/1",
    engine_urls=("http://127.0.0.1:9000",),
    engine_key="key",
    supervisor_pid=4242,
    data_dir="/data",
    started=1.5,
    processes=(ProcessState("engine", "engine", 77, "ready", 2, 1.25),),
)


def test_what_is_written_is_read_back_and_only_the_owner_may_read_it(tmp_path: Path) -> None:
    write_state(tmp_path, STATE)
    assert read_state(tmp_path) == STATE
    assert stat.S_IMODE(state_file(tmp_path).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": "x"}'])
def test_a_broken_state_file_reads_as_none(tmp_path: Path, text: str) -> None:
    state_file(tmp_path).write_text(text)
    assert read_state(tmp_path) is None


def test_a_state_without_a_living_supervisor_is_not_running(tmp_path: Path) -> None:
    write_state(tmp_path, STATE)
    with pytest.raises(NotRunning, match="heed up"):
        running_state(tmp_path)
    with hold(tmp_path):
        assert running_state(tmp_path) == STATE


def test_a_data_directory_is_held_by_one_and_let_go_at_the_end(tmp_path: Path) -> None:
    with hold(tmp_path):
        write_state(tmp_path, STATE)
        assert locked(tmp_path)
        with pytest.raises(AlreadyRunning) as caught, hold(tmp_path):
            pass
        assert "http://127.0.0.1:8080" in str(caught.value)
        assert "heed down" in str(caught.value)
    assert not locked(tmp_path)


def _hold_and_die(folder: Path) -> None:
    import os

    holder = hold(folder)
    holder.__enter__()
    os._exit(9)


def test_a_killed_holder_leaves_the_directory_free(tmp_path: Path) -> None:
    child = multiprocessing.get_context("spawn").Process(target=_hold_and_die, args=(tmp_path,))
    child.start()
    child.join()
    assert child.exitcode == 9
    with hold(tmp_path):
        assert locked(tmp_path)
