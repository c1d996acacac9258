"""The cores, and what runs on them: the measured process alone on one, everything else on the others."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.wire.answer import Target
from benchmarks.wire.upstream import How
from feedback import keys
from feedback.protocols import AliasRecord, Arm, ExperimentRecord, KeyRecord
from feedback.registry import RedisRegistry
from feedback.store import connect
from serve.auth import digest_of
from tests.servers import answers, free_port, gateway_server, process, wait_until

KEY = "sk-heed-of-the-benchmark"
ARMS = (
    Arm(name="plain", adapter=None, share=0.5),
    Arm(name="warm", adapter=None, share=0.5, sampling={"temperature": 0.7}),
)


@dataclass(frozen=True)
class Cores:
    """The core of what is measured; None: it runs wherever the others do."""

    measured: int | None

    def alone(self, command: Sequence[str]) -> list[str]:
        """The command on the measured core."""
        if self.measured is None:
            return list(command)
        return ["taskset", "--cpu-list", str(self.measured), *command]


@contextmanager
def parted_cores() -> Iterator[Cores]:
    """This process and its children keep off the first core. Raises RuntimeError where there is but one."""
    every = sorted(os.sched_getaffinity(0))
    if len(every) < 2:
        raise RuntimeError("a gateway is measured alone on a core: two cores are needed")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, every[1:])
    try:
        yield Cores(every[0])
    finally:
        os.sched_setaffinity(0, every)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def engine_that_costs_nothing(folder: Path) -> Iterator[Target]:
    """The upstream, as a target of its own: what is measured there is the cost of the way."""
    port, log = free_port(), folder / "upstream.log"
    with process([sys.executable, "-m", "benchmarks.wire.upstream", str(port)], log) as child:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"), 20, "the upstream", log)
        yield Target("direct", port, "base", child.pid)


def write(engine: Target, how: How, per_second: float = 0.0) -> None:
    """How the engine writes its events from now on."""
    told = {"how": how, "per_second": per_second}
    url = f"http://127.0.0.1:{engine.port}/pace"
    with urllib.request.urlopen(url, json.dumps(told).encode(), timeout=5) as reply:
        assert json.load(reply) == told


@contextmanager
def heed(cores: Cores, folder: Path, engine: Target, redis_url: str) -> Iterator[Target]:
    """One gateway process with everything on: keys, limits per key and subject that never refuse, an
    experiment, signed ids, the log on a store that fsyncs, metrics.
    """
    registry = RedisRegistry(connect(redis_url))
    if not registry.keys():
        registry.put_alias(AliasRecord(name="heed"))
        registry.put_experiment(ExperimentRecord(name="wire", alias="heed", arms=ARMS, salt="wire"))
        registry.put_key(
            KeyRecord(
                id="k-bench",
                digest=digest_of(KEY),
                scopes=("chat",),
                created=time.time(),
                requests_per_minute=1e9,
                tokens_per_minute=1e12,
                tokens_per_day=1e15,
                max_concurrent=100_000,
            )
        )
    settings = {
        "HEED_SUBJECT_RATE": "1000000",
        "HEED_SUBJECT_BURST": "1000000",
        "HEED_MAX_CHATS_IN_FLIGHT": "100000",
        "HEED_ENGINE_CHATS": "100000",  # one engine stands in for many here
        "HEED_SUBJECT_CHATS": "100000",
    }
    engine_url = f"http://127.0.0.1:{engine.port}"
    starting = gateway_server(folder / "heed", redis_url, engine_url, before=cores.alone([]), **settings)
    with starting as (url, child):
        scraped(url)  # the first one loads what the figures of experiments need
        yield Target("heed", int(url.rpartition(":")[2]), "heed", child.pid, KEY)
        check_logged(url, redis_url)


def scraped(url: str) -> str:
    """The gateway's metrics."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as reply:
        text: str = reply.read().decode()
    return text


def check_logged(url: str, redis_url: str) -> None:
    """Every answer that the gateway counted is in the log: it was measured with the log on."""
    counted = answered(scraped(url))
    with connect(redis_url) as store:
        wait_until(lambda: store.xlen(keys.EVENTS) >= counted, 30, f"{counted} answers in the log")


def answered(metrics: str) -> int:
    """How many chats ended well, from the gateway's metrics."""
    counts = re.findall(r'^heed_chat_requests_total\{[^}]*code="200"[^}]*\} (\S+)$', metrics, re.MULTILINE)
    return int(sum(map(float, counts)))


def load(kind: str, targets: Sequence[Target], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Run the load in a process of its own. Raises RuntimeError with its words when it failed."""
    plan = {"kind": kind, "targets": [asdict(one) for one in targets], "settings": settings}
    command = [sys.executable, "-m", "benchmarks.wire.load"]
    run = subprocess.run(command, input=json.dumps(plan).encode(), capture_output=True, check=False)
    if run.returncode:
        raise RuntimeError(f"the load ({kind}) failed:\n{run.stderr.decode()[-2000:]}")
    told: dict[str, Any] = json.loads(run.stdout)
    return told
