"""Beside adapters a token without one keeps the base's result, in vLLM's own kernels for the CPU."""

from __future__ import annotations

import importlib
import types
from importlib.metadata import entry_points

import pytest
import torch

from deploy.vllm_plugin import leaving_seeds, register


def test_vllm_finds_the_plug_in() -> None:
    found = entry_points(group="vllm.general_plugins", name="heed")
    assert [point.load() for point in found] == [register]


def test_an_index_of_minus_one_is_no_adapter_even_when_every_slot_is_in_use() -> None:
    register()
    register()  # vLLM may call it twice
    kernels = importlib.import_module("vllm.lora.ops.torch_ops")
    punica = importlib.import_module("vllm.lora.punica_wrapper.punica_cpu")
    x, indices = torch.ones(3, 4), torch.tensor([0, -1, 1])
    a, b = torch.ones(2, 1, 2, 4), torch.ones(2, 1, 5, 2)  # two slots, both in use; rank 2
    buffer, y = torch.full((3, 2), 7.0), torch.zeros(3, 5)
    punica.bgmv_shrink(x, a, buffer, indices, 0.5)
    assert buffer.tolist() == [[2.0, 2.0], [0.0, 0.0], [2.0, 2.0]]  # ½ · four ones
    kernels.bgmv_expand(buffer, b, y, indices, add_inputs=True)
    assert y[:, 0].tolist() == [4.0, 0.0, 4.0]
    lengths = torch.tensor([1, 1, 1])  # the kernels for prompts go through the same one
    buffer = torch.full((3, 2), 7.0)
    kernels.sgmv_shrink(x, a, buffer, lengths.cumsum(0) - 1, lengths, indices, 3, 1, 3, 0.5)
    assert buffer[1].tolist() == [0.0, 0.0]


def test_the_random_numbers_of_a_cpu_are_not_turned_back() -> None:
    register()
    register()
    gpu = importlib.import_module("vllm.v1.worker.gpu_model_runner").GPUModelRunner
    cpu = importlib.import_module("vllm.v1.worker.cpu_model_runner").CPUModelRunner
    assert cpu._bookkeeping_sync.__wrapped__ is gpu._bookkeeping_sync

    def turn_back(runner: types.SimpleNamespace, result: str) -> str:
        for generator in runner.input_batch.generators.values():
            generator.set_offset(generator.get_offset() - 4)
        return result

    seeded = {0: torch.Generator().manual_seed(1)}
    runner = types.SimpleNamespace(input_batch=types.SimpleNamespace(generators=seeded))
    with pytest.raises(RuntimeError, match="does not use offset"):
        turn_back(runner, "done")
    assert leaving_seeds(turn_back)(runner, "done") == "done"
    assert runner.input_batch.generators is seeded
