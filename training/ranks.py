"""Several processes that train one adapter together, started by ``torchrun``; with one, nothing here does anything.

Every process holds base and adapter, and takes its share of what is large: replies to sample, passes over packed
conversations and their gradients. What comes of the shares is gathered and gradients are summed, in the order
of the shares, so that all go on with the same experience: what is worked out from it (rewards, advantages,
whitening, the controller, the value network) is worked out by each alike, over all of it. A decision that could
differ is the first process's, and only the first writes.

A group of N processes is to one process what N times as many lanes are: sums in another order, and nothing
else, differ. The processes run on machines of one kind and see one data directory.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Thing = TypeVar("Thing")


@contextmanager
def joined() -> Iterator[None]:
    """The group that ``torchrun`` tells of in the environment: gloo on CPUs, nccl on GPUs. None: one process."""
    if "RANK" not in os.environ or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(_here("LOCAL_RANK", 0))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def place() -> int:
    """Where among them this process is, from 0."""
    return dist.get_rank() if size() > 1 else 0


def is_first() -> bool:
    """Whether this is the one that decides and writes."""
    return place() == 0


def device() -> str:
    """What this process computes on: a GPU of its own where there are any."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{_here('LOCAL_RANK', 0)}" if size() > 1 else "cuda"


def cores() -> int:
    """How many of this host's cores are this process's."""
    return max(1, (os.cpu_count() or 1) // (_here("LOCAL_WORLD_SIZE", 1) if size() > 1 else 1))


def share(count: int) -> slice:
    """Which of ``count`` things are this process's: a run of neighbours, as even as can be."""
    return slice(count * place() // size(), count * (place() + 1) // size())


def gathered(mine: Sequence[Thing]) -> list[Thing]:
    """What all processes have, in their order. What holds tensors must be on the CPU."""
    if size() == 1:
        return list(mine)
    torch.save(list(mine), held := io.BytesIO())  # unlike pickle keeps what many views share once
    found: list[bytes] = [b""] * size()
    dist.all_gather_object(found, held.getvalue())
    told: list[Thing] = []
    for rank, data in enumerate(found):  # from this group's own processes: as trusted as this one
        told += mine if rank == place() else torch.load(io.BytesIO(data), weights_only=False)
    return told


def agreed(said: Thing) -> Thing:
    """What the first process says."""
    if size() == 1:
        return said
    box = [said]
    dist.broadcast_object_list(box)
    return box[0]


@torch.no_grad()
def alike(weights: Iterable[Tensor]) -> None:
    """Put the first process's weights in place of all others'."""
    if size() > 1:
        for weight in weights:
            dist.broadcast(weight, 0)


@torch.no_grad()
def sum_gradients(weights: Sequence[Tensor]) -> None:
    """Each weight's gradient becomes the sum of all processes'; no gradient counts as zero."""
    if size() == 1:
        return
    own = [torch.zeros_like(one) if one.grad is None else one.grad for one in weights]
    flat = torch.cat([one.reshape(-1) for one in own])  # one message
    dist.all_reduce(flat)
    parts = flat.split([one.numel() for one in own])
    for weight, part in zip(weights, parts, strict=True):
        weight.grad = part.view_as(weight).to(weight.dtype)


def meet() -> None:
    """Wait until all processes are here: what the first wrote before it, the others can read after it."""
    if size() > 1:
        dist.barrier()


@contextmanager
def in_turn() -> Iterator[None]:
    """What is inside, by one process of a host after the other. All must call it alike."""
    mine, last = (_here(name, 0) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    for _ in range(mine):
        meet()
    yield
    for _ in range(mine, last):
        meet()


def _here(name: str, otherwise: int) -> int:
    """One of ``torchrun``'s numbers."""
    return int(os.environ.get(name, otherwise))
