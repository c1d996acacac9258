"""Heed's plug-in for vLLM: on a CPU, the base answers as the base beside adapters, and seeds kill no engine.

vLLM marks a token without an adapter by the index −1. Its kernels for GPUs leave such tokens alone; the ones in
plain torch for CPUs (0.32) take −1 as Python does, for the last slot, and once every slot is in use the base's
replies are an adapter's whenever one is in the batch (vllm#48421, not merged).

Of a prompt that is read in several steps vLLM throws away what the first ones drew, and turns the random numbers of a
chat with a seed back by their offset. Those of a CPU have none ("CPU Generator does not use offset"), and its core dies
of it (0.32): a few long chats with seeds at once are enough. Here their whole state is put back.

vLLM loads this in each of its processes through the entry point ``vllm.general_plugins`` wherever Heed is installed
beside it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, TypeAlias

Shrink: TypeAlias = Callable[..., None]
Method: TypeAlias = Callable[..., Any]


def register() -> None:
    """Called by vLLM. Does nothing but on a CPU."""
    if not importlib.import_module("vllm.platforms").current_platform.is_cpu():
        return
    kernels: Any = importlib.import_module("vllm.lora.ops.torch_ops.lora_ops")
    wrapper: Any = importlib.import_module("vllm.lora.punica_wrapper.punica_cpu")
    if not hasattr(kernels.bgmv_shrink, "__wrapped__"):
        kernels.bgmv_shrink = wrapper.bgmv_shrink = sparing(kernels.bgmv_shrink)
    runner: Any = importlib.import_module("vllm.v1.worker.cpu_model_runner").CPUModelRunner
    for name, wrap in (("_sample", putting_back), ("_bookkeeping_sync", without_offsets)):
        method = getattr(runner, name, None)
        if method is not None and not hasattr(method, "__wrapped__"):
            setattr(runner, name, wrap(method))


def sparing(shrink: Shrink) -> Shrink:
    """``shrink`` is x·A of each token's adapter; without one it has to be zero, and so is all that follows."""

    @functools.wraps(shrink)
    def spared(inputs: Any, weights: Any, output: Any, indices: Any, *rest: Any, **named: Any) -> None:
        shrink(inputs, weights, output, indices, *rest, **named)
        output[indices < 0] = 0.0

    return spared


def putting_back(sample: Method) -> Method:
    """``sample`` draws a token for each request; a draw that does not count leaves its generator as it was."""

    @functools.wraps(sample)
    def drawn(runner: Any, *rest: Any, **named: Any) -> Any:
        before = [(one, one.get_state()) for one in _uncounted(runner).values()]
        told = sample(runner, *rest, **named)
        for generator, state in before:
            generator.set_state(state)
        return told

    return drawn


def without_offsets(bookkeeping: Method) -> Method:
    """``bookkeeping`` would take those draws back: it does not see their generators."""

    @functools.wraps(bookkeeping)
    def kept(runner: Any, *rest: Any, **named: Any) -> Any:
        hidden, generators = _uncounted(runner), runner.input_batch.generators
        for place in hidden:
            del generators[place]
        try:
            return bookkeeping(runner, *rest, **named)
        finally:
            generators.update(hidden)

    return kept


def _uncounted(runner: Any) -> dict[int, Any]:
    """The generators of the requests whose prompt is not read to its end in this step, by their place in the batch."""
    batch = runner.input_batch
    unread = runner.discard_request_mask.np[: batch.num_reqs]
    return {place: one for place, one in batch.generators.items() if unread[place]}
