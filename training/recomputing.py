"""Gradient checkpointing (Chen et al. 2016): what is inside a layer is worked out anew for its gradients, not kept."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer


def recomputed(work: Callable[..., Any]) -> Callable[..., Any]:
    """``work``, of which a backward pass finds only the arguments kept. It must draw no random numbers."""
    return functools.partial(checkpoint, work, use_reentrant=False, preserve_rng_state=False)


def layers(base: Any) -> list[Any]:
    """The decoder layers of a transformers model."""
    return [part for part in base.modules() if isinstance(part, GradientCheckpointingLayer)]


def recompute_layers(base: Any) -> None:
    """Have each layer of a transformers model be so. Its own switch works in training mode alone, dropout and all."""
    for layer in layers(base):
        layer.forward = recomputed(layer.forward)
