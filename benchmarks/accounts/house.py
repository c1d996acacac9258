"""A store, two gateways, a worker and its beat at fixed addresses, each killed and started again at any time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import redis

from feedback.log import RedisEventLog
from feedback.spool import Spool
from feedback.store import connect
from tests.servers import ROOT, answers, free_port, stop_group, valkey_command, wait_until

GATEWAYS = ("gateway-0", "gateway-1")
KILLED = ("redis", *GATEWAYS, "worker")
NAMES = (*KILLED, "beat")
CELERY = (sys.executable, "-m", "celery", "-A", "training.app")


class House:
    """``data`` is what must survive: the store's journal, the spool, the archive. Logs lie in ``folder``."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data = folder, data
        self._ports = {name: free_port() for name in ("redis", *GATEWAYS)}
        self.redis_url = f"redis://127.0.0.1:{self._ports['redis']}/0"
        self.urls = tuple(f"http://127.0.0.1:{self._ports[name]}" for name in GATEWAYS)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._busy = {name: threading.Lock() for name in NAMES}  # one fault at a time for each
        self.kills = 0
        self.ended = threading.Event()  # no more faults
        (data / "redis").mkdir(parents=True, exist_ok=True)

    def _command(self, name: str) -> list[str]:
        if name == "redis":
            return valkey_command(self.data / "redis", self._ports[name])
        if name in GATEWAYS:
            return [sys.executable, "-m", "serve"]
        if name == "worker":
            return [*CELERY, "worker", "-Q", "control", "-P", "solo", "-n", "w@heed", "--without-gossip"]
        return [*CELERY, "beat", "--schedule", str(self.folder / "schedule"), "--pidfile", ""]

    def _answers(self, name: str) -> bool:
        """Whether it does its work; of worker and beat nobody waits to know."""
        if name == "redis":
            with contextlib.suppress(redis.RedisError), redis.Redis.from_url(self.redis_url) as client:
                return bool(client.ping())
            return False
        return name not in GATEWAYS or answers(f"http://127.0.0.1:{self._ports[name]}/healthz")

    def start(self, name: str) -> None:
        """Until it answers, however often it has to be started: its disk may be full."""
        env = {
            **os.environ,
            "HEED_DATA_DIR": str(self.data),
            "HEED_REDIS_URL": self.redis_url,
            "HEED_BROKER_URL": self.redis_url[:-1] + "1",
            "HEED_ENGINE_URLS": "http://127.0.0.1:9",  # nobody: votes need none
            "HEED_PORT": str(self._ports.get(name, 0)),
        }
        while not self.ended.is_set():
            with (self.folder / f"{name}.log").open("ab") as sink:
                child = subprocess.Popen(
                    self._command(name), stdout=sink, stderr=sink, env=env, start_new_session=True, cwd=ROOT
                )
            self._children[name] = child
            while child.poll() is None:
                if self._answers(name):
                    return
                time.sleep(0.1)
            time.sleep(0.5)

    def open(self) -> None:
        """All of it, side by side."""
        self._together(self.start)

    def restart(self, name: str, pause: float = 0.0, meanwhile: Callable[[], None] = lambda: None) -> None:
        """kill -9; after ``pause`` seconds it runs again."""
        with self._busy[name]:
            self.kills += 1
            with contextlib.suppress(ProcessLookupError):  # it had ended by itself
                os.killpg(self._children[name].pid, signal.SIGKILL)
            self._children[name].wait()
            meanwhile()
            self.ended.wait(pause)
            self.start(name)

    def freeze(self, name: str, seconds: float) -> None:
        """No turn for it, with its sockets open."""
        with self._busy[name]:
            os.kill(self._children[name].pid, signal.SIGSTOP)
            self.ended.wait(seconds)
            os.kill(self._children[name].pid, signal.SIGCONT)

    def watch(self) -> None:
        """Start what ended by itself, as a store does whose disk is full, until there are no more faults."""
        while not self.ended.wait(0.5):
            for name in NAMES:
                if self._children[name].poll() is not None and self._busy[name].acquire(blocking=False):
                    try:
                        if self._children[name].poll() is not None:
                            self.start(name)
                    finally:
                        self._busy[name].release()

    def mend(self) -> None:
        """No more faults; what does not run is started."""
        self.ended.clear()
        self._together(lambda name: None if self._children[name].poll() is None else self.start(name))

    def _together(self, work: Callable[[str], None]) -> None:
        threads = [threading.Thread(target=work, args=(name,), daemon=True) for name in NAMES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        wait_until(lambda: all(map(self._answers, NAMES)), 60, "the house", self.folder / "redis.log")

    def close(self) -> None:
        """Stop what runs."""
        self.ended.set()
        for child in self._children.values():
            stop_group(child, 3.0)

    @property
    def log(self) -> RedisEventLog:
        return RedisEventLog(connect(self.redis_url, 10.0))

    @property
    def spool(self) -> Spool:
        return Spool(self.data / "spool")
