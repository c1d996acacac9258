"""Beside adapters a token without one keeps the base's result, in vLLM's own kernels for the CPU; and seeds on one."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from deploy.vllm_plugin import putting_back, register, without_offsets


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


def runner_of(unread: list[bool], seeded: list[int]) -> Any:
    """What a step is to the plug-in: requests by their place in the batch, some with a generator."""
    generators = {place: torch.Generator().manual_seed(place) for place in seeded}
    batch = SimpleNamespace(num_reqs=len(unread), generators=generators)
    mask = SimpleNamespace(np=np.array([*unread, True, True]))  # longer than the batch, and stale beyond it
    return SimpleNamespace(input_batch=batch, discard_request_mask=mask)


def test_a_draw_that_does_not_count_leaves_the_generator_as_it_was() -> None:
    runner = runner_of([True, False, True, False], seeded=[0, 1])
    generators = runner.input_batch.generators

    def sample(_: Any, rows: int) -> list[float]:
        return [float(torch.rand(1, generator=generators.get(row))) for row in range(rows)]

    first, second = (putting_back(sample)(runner, 4) for _ in range(2))
    assert first[0] == second[0]  # its prompt is not read yet
    fresh = torch.Generator().manual_seed(1)
    assert [first[1], second[1]] == [float(torch.rand(1, generator=fresh)) for _ in range(2)]


def test_bookkeeping_sees_no_generator_whose_draw_was_put_back_and_all_are_there_again() -> None:
    runner = runner_of([True, False], seeded=[0, 1])
    before = dict(runner.input_batch.generators)

    def bookkeeping(one: Any, *, broken: bool) -> list[int]:
        if broken:
            raise RuntimeError("no")
        return list(one.input_batch.generators)

    assert without_offsets(bookkeeping)(runner, broken=False) == [1]
    assert runner.input_batch.generators == before
    with pytest.raises(RuntimeError, match="no"):
        without_offsets(bookkeeping)(runner, broken=True)
    assert runner.input_batch.generators == before


def test_vllm_has_what_the_plug_in_takes_hold_of() -> None:
    register()
    runner = importlib.import_module("vllm.v1.worker.cpu_model_runner").CPUModelRunner
    assert all(hasattr(getattr(runner, name), "__wrapped__") for name in ("_sample", "_bookkeeping_sync"))
