"""The stock vLLM server, started in half the time: its core process is forked instead of started anew.

Run as ``python -m deploy.forked_engine`` with the arguments of vLLM's own server. On a CPU vLLM insists on
fresh interpreters, each of which imports vLLM again, because a worker's OpenMP threads must be placed before
torch is loaded. A local launch places none ("nobind"), and nothing computes before the fork, so nothing is
lost; on a GPU vLLM forks by itself. When vLLM no longer has the hook, it starts as it always does.
"""

from __future__ import annotations

import importlib
import multiprocessing
import runpy

SERVER = "vllm.entrypoints.openai.api_server"


def fork_the_core() -> bool:
    """Let vLLM fork its core process; False when this vLLM decides it elsewhere."""
    system = importlib.import_module("vllm.utils.system_utils")
    if not hasattr(system, "get_mp_context"):
        return False
    system.get_mp_context = lambda: multiprocessing.get_context("fork")  # type: ignore[attr-defined]
    return True


if __name__ == "__main__":
    fork_the_core()
    runpy.run_module(SERVER, run_name="__main__")
