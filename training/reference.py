"""One pass of the frozen base over whole conversations: what the reference, the reward and the value need.

The reference's log-probabilities, the pooled features that the reward model reads, and the token states that
the value head reads all come from the same forward pass with adapters off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.trunk import Trunk, pad


@dataclass(frozen=True)
class Tokens:
    """One conversation as tokens: what was asked and what was replied."""

    prompt: tuple[int, ...]
    reply: tuple[int, ...]


@dataclass(frozen=True)
class Seen:
    """What the base makes of one conversation of ``n`` reply tokens."""

    features: Tensor  # (width,): each layer's states averaged over the reply, and the log of its length
    logprobs: Tensor  # (n,) natural log
    states: Tensor  # (n, 2·hidden): before each reply token, the last state and the mean of the reply so far


def token_logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-probability of each next token. ``logits`` (rows, length, vocabulary), ``ids`` (rows, length)."""
    scores = logits[:, :-1].float()
    chosen = scores.gather(2, ids[:, 1:, None])[..., 0]
    return chosen - scores.logsumexp(-1)


@torch.no_grad()
def look(trunk: Trunk, conversations: Sequence[Tokens], rows: int = 64) -> list[Seen]:
    """In order; conversations of like length go through the base together."""
    order = sorted(
        range(len(conversations)), key=lambda i: len(conversations[i].prompt) + len(conversations[i].reply)
    )
    found: list[Seen | None] = [None] * len(conversations)
    with trunk.using(None) as model:
        model.eval()
        for start in range(0, len(order), rows):
            chunk = [conversations[index] for index in order[start : start + rows]]
            ids, mask = pad([[*c.prompt, *c.reply] for c in chunk], trunk.end)
            out: Any = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
            logprobs = token_logprobs(out.logits, ids)
            for row, (index, one) in enumerate(zip(order[start : start + rows], chunk, strict=True)):
                found[index] = _seen(one, row, out.hidden_states, logprobs[row])
    return [seen for seen in found if seen is not None]


def _seen(one: Tokens, row: int, layers: Sequence[Tensor], logprobs: Tensor) -> Seen:
    begin, end = len(one.prompt), len(one.prompt) + len(one.reply)
    pooled = [layer[row, begin:end].float().mean(0) for layer in layers]
    length = torch.log(torch.tensor([float(end - begin)]))
    last = layers[-1][row].float()
    before = last[begin - 1 : end - 1]
    sofar = before.cumsum(0) / torch.arange(1, len(before) + 1)[:, None]
    return Seen(
        torch.cat([*pooled, length]), logprobs[begin - 1 : end - 1].clone(), torch.cat([before, sofar], 1)
    )
