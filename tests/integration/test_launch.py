"""`heed up` as a user meets it, with the real store and gateway and an engine that is elsewhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from benchmarks.terminal import belonging_to, terminal
from deploy.state import ProcessState, read_state
from tests.servers import ROOT, answers, free_port, process, stop_group, valkey_server, wait_until

HEED = [sys.executable, "-m", "deploy.cli"]
NO_ENGINE = ("--engine-url", "http://127.0.0.1:1", "--no-worker")


def heed(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one command against the data directory."""
    env = {**os.environ, "HEED_DATA_DIR": str(data)}
    command = [*HEED, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=env, cwd=ROOT, check=False, timeout=300
    )


@contextmanager
def up(data: Path, *more: str) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """A launch without an engine: its supervisor, its address, its output."""
    url, log = f"http://127.0.0.1:{(port := free_port())}", data.parent / "up.log"
    with process(
        [*HEED, "up", "--port", str(port), *NO_ENGINE, *more], log, {"HEED_DATA_DIR": str(data)}
    ) as supervisor:
        wait_until(lambda: answers(f"{url}/healthz"), 180, "the gateway", log)
        wait_until(lambda: all(e.state == "ready" for e in processes(data)), 180, "all parts", log)
        yield supervisor, url, log


def processes(data: Path) -> tuple[ProcessState, ...]:
    """The processes as their supervisor last wrote them, which is what `heed status` tells."""
    state = read_state(data / "run")
    assert state is not None
    return state.processes


def pids(data: Path) -> dict[str, int]:
    return {entry.name: entry.pid for entry in processes(data) if entry.pid is not None}


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_every_process(data: Path, number: int) -> None:
    with up(data) as (supervisor, url, log):
        started = pids(data)
        assert set(started) == {"gateway", "redis"}
        supervisor.send_signal(number)
        assert supervisor.wait(180) == 0, log.read_text()
        assert not any(alive(pid) for pid in started.values())
        assert not answers(f"{url}/healthz")
        assert not (data / "run" / "state.json").exists()


def test_closing_the_terminal_stops_all_although_nothing_can_be_shown(data: Path, tmp_path: Path) -> None:
    url, log = f"http://127.0.0.1:{(port := free_port())}", tmp_path / "up.log"
    env = {**os.environ, "HEED_DATA_DIR": str(data), "TERM": "xterm"}
    with terminal([*HEED, "up", "--port", str(port), *NO_ENGINE], ROOT, env, log) as window:
        wait_until(lambda: answers(f"{url}/healthz"), 180, "the gateway", log)
        assert len(belonging_to(data)) == 3
        window.hang_up()
        assert window.process.wait(180) == 0
        assert belonging_to(data) == set()
    assert not (data / "run" / "state.json").exists()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_pipe_that_nobody_reads_any_more_ends_nothing_and_the_stop_is_clean(
    data: Path, unbuffered: str
) -> None:
    env = {**os.environ, "HEED_DATA_DIR": str(data), "PYTHONUNBUFFERED": unbuffered}
    reader, writer = os.pipe()
    url = f"http://127.0.0.1:{(port := free_port())}"
    command = [*HEED, "up", "--port", str(port), *NO_ENGINE]
    supervisor = subprocess.Popen(command, stdout=writer, env=env, cwd=ROOT, start_new_session=True)
    os.close(writer)
    try:
        assert os.read(reader, 4)  # the address is told
        os.close(reader)
        wait_until(lambda: answers(f"{url}/healthz"), 180, "the gateway")
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(180) == 0
        assert belonging_to(data) == set()
    finally:
        stop_group(supervisor)


def test_a_second_start_in_the_same_data_directory_names_the_first(data: Path) -> None:
    with up(data) as (supervisor, url, _):
        ran = heed(data, "up", *NO_ENGINE)
        assert ran.returncode == 1
        assert str(supervisor.pid) in ran.stderr
        assert url in ran.stderr
        assert "heed down" in ran.stderr


def test_a_killed_supervisor_takes_its_processes_along_and_the_next_start_works(data: Path) -> None:
    with up(data) as (supervisor, _, log):
        started = pids(data)
        supervisor.kill()
        supervisor.wait()
        wait_until(lambda: not any(alive(pid) for pid in started.values()), 180, "the end of all", log)
    with up(data):
        assert set(pids(data)) == {"gateway", "redis"}


def test_killed_processes_come_back_and_what_was_stored_is_still_there(data: Path) -> None:
    with up(data) as (_, url, log):
        assert heed(data, "aliases", "create", "support", "--guidelines", "Be kind.").returncode == 0
        before = pids(data)
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)

        def back() -> bool:
            return all(e.restarts == 1 and e.state == "ready" for e in processes(data))

        wait_until(back, 180, "both parts again", log)
        assert pids(data).keys() == before.keys()
        assert set(pids(data).values()).isdisjoint(before.values())
        wait_until(lambda: "support" in heed(data, "aliases", "list").stdout, 180, "the alias", log)
        assert answers(f"{url}/healthz")


def test_a_detached_launch_is_looked_at_and_stopped_from_elsewhere(data: Path) -> None:
    started = heed(data, "up", "--detach", "--port", "0", *NO_ENGINE)
    assert started.returncode == 0, started.stderr
    try:
        running = pids(data)
        found = json.loads(heed(data, "status", "--json").stdout)
        assert {entry["name"]: entry["pid"] for entry in found["processes"]} == running
        assert found["url"] in started.stdout
        assert found["ready"] is False
    finally:
        stopped = heed(data, "down")
    assert stopped.returncode == 0, stopped.stderr
    assert not any(alive(pid) for pid in running.values())
    assert "no Heed is running" in heed(data, "status").stderr


def test_a_detached_launch_that_cannot_start_says_why(data: Path) -> None:
    ran = heed(data, "up", "--detach", "--redis-url", "redis://127.0.0.1:1/0", *NO_ENGINE)
    assert ran.returncode == 1
    assert "--redis-url" in ran.stderr


@pytest.mark.parametrize("how", [(), ("--detach",)])
def test_a_data_directory_that_cannot_be_made_is_refused_with_its_mend(
    tmp_path: Path, how: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("")
    ran = heed(tmp_path / "file" / "data", "up", *how, *NO_ENGINE)
    assert ran.returncode == 1
    assert "cannot be made" in ran.stderr
    assert "--data-dir" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_store_that_may_lose_a_vote_is_used_with_a_warning(data: Path, tmp_path: Path) -> None:
    with valkey_server(tmp_path / "valkey") as (url, _), redis.Redis.from_url(url) as client:
        client.config_set("appendfsync", "everysec")
        with up(data, "--redis-url", url) as (_, _, log):
            said = log.read_text()
    assert "warning" in said
    assert "appendfsync: everysec" in said
    assert "redis-cli config set appendfsync always" in said
    assert "appendonly:" not in said


def test_secrets_stand_in_no_argument_list_and_no_log(data: Path) -> None:
    with up(data) as (_, _, log):
        state = json.loads((data / "run" / "state.json").read_text())
        password = state["redis_url"].split(":")[2].split("@")[0]
        said = [" ".join(psutil.Process(pid).cmdline()) for pid in pids(data).values()]
        said += [log.read_text(), *(path.read_text() for path in (data / "logs").iterdir())]
        assert not any(password in text for text in said)
        assert (data / "run" / "state.json").stat().st_mode & 0o777 == 0o600


def test_a_key_that_was_made_opens_and_one_that_was_revoked_does_not(data: Path) -> None:
    with up(data) as (_, url, log):
        first, second = (heed(data, "keys", "create", "--scope", "admin").stdout.split() for _ in range(2))
        wait_until(lambda: not answers(f"{url}/v1/aliases"), 120, "the need for a key", log)
        opens, stays = ({"Authorization": f"Bearer {made[-1]}"} for made in (first, second))
        wait_until(lambda: answers(f"{url}/v1/aliases", opens), 120, "the first key", log)
        listed = heed(data, "keys", "list").stdout
        assert first[0] in listed
        assert first[-1] not in listed
        assert heed(data, "keys", "revoke", first[0]).returncode == 0
        wait_until(lambda: not answers(f"{url}/v1/aliases", opens), 120, "the end of the key", log)
        assert answers(f"{url}/v1/aliases", stays)


def test_existing_feedback_is_imported_once_and_bad_lines_are_told(data: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    good = [{"prompt": f"Hi {n}?", "chosen": "Hello!", "rejected": "What."} for n in range(3)]
    pairs.write_text("\n".join([*map(json.dumps, good), "nonsense"]))
    with up(data):
        first = heed(data, "import", str(pairs), "--format", "preference")
        again = heed(data, "import", str(pairs), "--format", "preference")
        unknown = heed(data, "import", str(pairs), "--format", "preference", "--alias", "nobody")
    assert (
        "3 records: 0 votes, 3 comparisons and 0 labels on 6 responses, 0 events known before, 1 left"
        in first.stdout
    )
    assert "line 4" in first.stdout
    assert "0 comparisons and 0 labels on 0 responses, 9 events known before" in again.stdout
    assert unknown.returncode == 1
    assert "nobody" in unknown.stderr


def test_the_doctor_finds_the_embedded_store_strict(data: Path) -> None:
    with up(data):
        found = {row["check"]: row["verdict"] for row in json.loads(heed(data, "doctor", "--json").stdout)}
    assert {found[name] for name in ("redis", "appendonly", "appendfsync", "maxmemory-policy")} == {"fine"}
