"""One pass of the frozen base over whole conversations: what the reference, the reward and the value need.

The reference's log-probabilities, the pooled features that the reward model reads, and the token states that
the value head reads all come from the same forward pass with adapters off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.forward import Forward, Pass
from training.packing import Packed, Tokens
from training.trunk import Trunk

__all__ = ["Seen", "Tokens", "look", "token_logprobs"]


@dataclass(frozen=True)
class Seen:
    """What the base makes of one conversation of ``n`` reply tokens."""

    tokens: Tokens
    features: Tensor  # (depth·hidden,): each layer's states averaged over the reply
    logprobs: Tensor  # (n,) natural log
    states: Tensor  # (n, 2·hidden): before each reply token, the last state and the mean of the reply so far


def token_logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-probability of each next token. ``logits`` (rows, length, vocabulary), ``ids`` (rows, length)."""
    scores = logits[:, :-1].float()
    chosen = scores.gather(2, ids[:, 1:, None])[..., 0]
    return chosen - scores.logsumexp(-1)


def look(trunk: Trunk, conversations: Sequence[Tokens]) -> list[Seen]:
    """In order. Conversations that share a prompt cost it once."""

    def each(packed: Packed, passed: Pass) -> list[tuple[int, Seen]]:
        return _each(packed, passed, conversations)

    parts = Forward(trunk, None).over(conversations, each, states=True)
    found = dict(pair for part in parts for pair in part)
    return [found[index] for index in range(len(conversations))]


def _each(packed: Packed, passed: Pass, conversations: Sequence[Tokens]) -> list[tuple[int, Seen]]:
    """Cut a pass into its conversations."""
    states = torch.cat([layer[packed.own].float() for layer in passed.layers], 1).cpu()
    owner = packed.owner.cpu()
    pooled = torch.zeros(len(packed.sizes), states.shape[1]).index_add_(0, owner, states)
    pooled /= torch.tensor(packed.sizes)[:, None]
    before = passed.layers[-1][packed.source].float().cpu().split(packed.sizes)
    logprobs = passed.logprobs.cpu().split(packed.sizes)
    return [
        (index, Seen(conversations[index], pooled[place], logprobs[place], _with_mean(before[place])))
        for place, index in enumerate(packed.indices)
    ]


def _with_mean(states: Tensor) -> Tensor:
    """Each state beside the mean of the states up to it. (n, hidden) → (n, 2·hidden)."""
    return torch.cat([states, states.cumsum(0) / torch.arange(1, len(states) + 1)[:, None]], 1)
