"""Heed's plug-in for vLLM: on a CPU, the base answers as the base beside adapters, and seeds kill no engine.

vLLM marks a token without an adapter by the index −1. Its kernels for GPUs leave such tokens alone; the ones in
plain torch for CPUs (0.32) take −1 as Python does, for the last slot, and once every slot is in use the base's
replies are an adapter's whenever one is in the batch (vllm#48421, not merged).

Of a prompt that is read in several steps vLLM throws away what the first ones drew, and turns the random numbers of a
chat with a seed back. Those of a CPU cannot be turned back ("CPU Generator does not use offset"), and its core dies of
it (0.32): a few long chats with seeds at once are enough. Here they are left where they are.

vLLM loads this in each of its
processes through the entry point ``vllm.general_plugins`` wherever Heed is installed beside it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, TypeAlias

Shrink: TypeAlias = Callable[..., None]


def register() -> None:
    """Called by vLLM. Does nothing but on a CPU."""
    if not importlib.import_module("vllm.platforms").current_platform.is_cpu():
        return
    kernels: Any = importlib.import_module("vllm.lora.ops.torch_ops.lora_ops")
    wrapper: Any = importlib.import_module("vllm.lora.punica_wrapper.punica_cpu")
    if not hasattr(kernels.bgmv_shrink, "__wrapped__"):
        kernels.bgmv_shrink = wrapper.bgmv_shrink = sparing(kernels.bgmv_shrink)
    runner: Any = importlib.import_module("vllm.v1.worker.cpu_model_runner").CPUModelRunner
    bookkeep = getattr(runner, "_bookkeeping_sync", None)
    if bookkeep is not None and not hasattr(bookkeep, "__wrapped__"):
        runner._bookkeeping_sync = leaving_seeds(bookkeep)  # noqa: SLF001 - it has no other name


def sparing(shrink: Shrink) -> Shrink:
    """``shrink`` is x·A of each token's adapter; without one it has to be zero, and so is all that follows."""

    @functools.wraps(shrink)
    def spared(inputs: Any, weights: Any, output: Any, indices: Any, *rest: Any, **named: Any) -> None:
        shrink(inputs, weights, output, indices, *rest, **named)
        output[indices < 0] = 0.0

    return spared


def leaving_seeds(bookkeep: Callable[..., Any]) -> Callable[..., Any]:
    """``bookkeep`` turns back the generators that the batch has, and does nothing else with them."""

    @functools.wraps(bookkeep)
    def kept(runner: Any, *rest: Any, **named: Any) -> Any:
        batch = runner.input_batch
        generators, batch.generators = batch.generators, {}
        try:
            return bookkeep(runner, *rest, **named)
        finally:
            batch.generators = generators

    return kept
