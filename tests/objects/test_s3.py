"""The archive in a bucket, through fsspec's own way to S3 and a server that speaks it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import overlay
from tests.servers import ROOT, free_port

HOME, LOCK = ROOT / ".venv" / "objects", ROOT / "locks" / "objects.txt"
PROGRAMS = "tests.objects.programs"


@pytest.fixture(scope="module")
def python() -> str:
    return str(overlay.made(HOME, LOCK))


@pytest.fixture
def environment(python: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Of who speaks with a server that runs as long as the test."""
    port = free_port()
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }
    command = [python, "-m", f"{PROGRAMS}.serve", str(port)]
    log = tmp_path / "server.log"
    with (
        log.open("w") as sink,
        subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=sink, text=True
        ) as server,
    ):
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n", log.read_text()
        yield env
        server.kill()


def ran(python: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", f"{PROGRAMS}.archive"]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def test_an_archive_in_a_bucket_is_one_on_a_disk(python: str, environment: dict[str, str]) -> None:
    done = ran(python, environment)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["empty"] == []
    assert [told[f"read after write {n}"] for n in range(4)] == [3, 6, 9, 12]
    assert set(told["names"]) == {"one/archive"}
    assert len(told["names"]) == 8  # four segments, each with its manifest
    assert told["merged"] == 4
    assert told["segments"] == [6, 6]
    assert told["before"] == ["s-gone", "s1"]
    assert told["forgotten"] == 4
    assert told["after"] == ["s1"]
    assert told["left"] == [f"r{10 * n + m}" for n in range(4) for m in range(2)]
    assert told["beside a torn file"] == 8
    assert told["torn"] == []
    assert "is damaged" in told["damaged"]


def test_a_server_that_is_away_is_an_error_and_not_an_empty_archive(
    python: str, environment: dict[str, str]
) -> None:
    done = ran(python, {**environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"})
    assert done.returncode != 0
    assert "Could not connect to the endpoint" in done.stderr
