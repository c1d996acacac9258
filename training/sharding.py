"""The frozen base cut up among the processes that train together, by torch's FSDP2: each holds a part of every matrix.

A layer is gathered whole where a pass comes to it, forwards and backwards, and let go behind it; torch's hooks see to
that. Norms and biases are small and stay whole. So a pass is a step of all processes: each makes as many, in the same
order, from one thread. Adapters come after the cut and are whole everywhere, and their gradients are summed as ever
(``ranks.sum_gradients``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from training import ranks
from training.cut_decoder import work_alone
from training.decoder import supports
from training.recomputing import layers


class Cut(nn.Module):
    """A base that is cut up. Work on it is done within a call: what lies outside the layers is whole meanwhile."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base = base

    def forward(self, work: Callable[[], Any]) -> Any:
        """What ``work`` gives: tensors, in tuples or alone."""
        return work()


def cut(read: Callable[[], Any], place: torch.device, compute: torch.dtype) -> Cut:
    """The base that ``read`` gives, on the CPU, frozen and without adapters; on ``place`` there is never more of it
    than this process's part and a layer, which is gathered in ``compute``: what autocast would make of it would be kept
    for the gradients. The processes of a host read one after the other, for its memory's sake.
    Raises ValueError where one process is alone.
    """
    if ranks.size() == 1:
        raise ValueError("shard: there is one process alone, and the base cannot be cut up among several")
    mesh = init_device_mesh(place.type, (ranks.size(),))
    with ranks.in_turn():
        base = read()
        small = {weight for weight in base.parameters() if weight.dim() < 2}
        for weight in small:
            weight.data = weight.data.to(place)
        how: Any = {"mesh": mesh, "ignored_params": small}
        mixed = MixedPrecisionPolicy(param_dtype=compute, cast_forward_inputs=False)
        for layer in layers(base):
            if supports(base.config):
                layer.forward = work_alone
            fully_shard(layer, mp_policy=mixed, **how)
        ends = base.get_input_embeddings(), base.get_output_embeddings()
        if ends[0].weight is not ends[1].weight:  # a weight that both have must be gathered for both at once
            for end in ends:
                fully_shard(end, **how)
        made = Cut(base)
        fully_shard(made, reshard_after_forward=True, **how)
    return made


def whole(weight: Tensor) -> Tensor:
    """A weight, gathered from all processes where it is cut up."""
    return weight.full_tensor() if isinstance(weight, DTensor) else weight


def held(weight: Tensor) -> Tensor:
    """What this process holds of a weight."""
    return weight.to_local() if isinstance(weight, DTensor) else weight
