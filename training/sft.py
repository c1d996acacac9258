"""Supervised fine-tuning of an adapter on demonstrations: corrections, and replies that were well liked.

Cross-entropy on the reply's tokens, each demonstration by its weight, each token alike; a few passes at a low
rate, stopped early on demonstrations it does not learn from. It moves the policy to where PPO can find more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from training import ranks
from training.examples import Demonstration
from training.forward import Forward
from training.packing import Packed, Tokens
from training.trunk import Trunk

Progress: TypeAlias = Callable[[str, float, dict[str, float]], None]


@dataclass(frozen=True)
class SFTConfig:
    """Settings of a run. The rate suits 3–10 million parameters."""

    epochs: int = 4
    """Most passes over the demonstrations."""
    minibatch: int = 16
    """Demonstrations a gradient step."""
    learning_rate: float = 1e-3
    warmup: int = 3
    """Gradient steps of linear warm-up."""
    gradient_norm: float = 1.0
    held_out: float = 0.1
    """Share of the demonstrations, at least one of ten, that only tell when to stop."""
    max_demonstrations: int = 2000
    """The heaviest are taken, the newest of equal weight."""
    seed: int = 0


def fit(
    trunk: Trunk,
    demonstrations: Sequence[Demonstration],
    config: SFTConfig,
    *,
    start: Path | None = None,
    out: Path,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train from ``start`` (None: the base) and write a stock PEFT folder to ``out``.

    The figures: ``demonstrations``, ``epochs`` done, ``loss_before`` and ``loss_after`` in nats a token on the
    held-out part (on all where there are fewer than ten). Raises ValueError without demonstrations.
    """
    if not demonstrations:
        raise ValueError("there is no demonstration to learn from")
    say = progress or (lambda *_: None)
    torch.manual_seed(config.seed)
    newest = list(reversed(demonstrations))
    chosen = sorted(newest, key=lambda one: -one.weight)[: config.max_demonstrations]
    examples = [(trunk.tokens(one.messages, one.text), one.weight) for one in chosen]
    order = torch.randperm(len(examples)).tolist()
    aside = int(len(examples) * config.held_out) if len(examples) >= 10 else 0
    test = [examples[index] for index in order[:aside]] or examples
    train = [examples[index] for index in order[aside:]]

    weights = trunk.add("sft", start)
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, eps=1e-5, weight_decay=0.0)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / (config.warmup + 1), 1.0, config.warmup)
    before = best = measure(trunk, test)
    kept, done = _copied(weights), 0
    for epoch in range(config.epochs):
        for begin in range(0, len(train), config.minibatch):
            _step(trunk, train[begin : begin + config.minibatch], weights, optimizer, config)
            rate.step()
        now = measure(trunk, test)
        say("fine-tuning", (epoch + 1) / config.epochs, {"loss": now})
        if not now < best:  # nor when it is no number any more
            break
        best, kept, done = now, _copied(weights), epoch + 1
    with torch.no_grad():
        for weight, saved in zip(weights, kept, strict=True):
            weight.copy_(saved)
    trunk.write("sft", out)
    return {
        "demonstrations": float(len(examples)),
        "epochs": float(done),
        "loss_before": before,
        "loss_after": best,
    }


def _told(examples: Sequence[tuple[Tokens, float]], packed: Packed, logprobs: Tensor) -> Tensor:
    """Weighted sum of −log π over the reply tokens of a packed batch."""
    weight = torch.tensor([examples[index][1] for index in packed.indices], device=logprobs.device)
    return -(logprobs * weight[packed.owner]).sum()


def _count(examples: Sequence[tuple[Tokens, float]]) -> float:
    return max(1e-9, sum(len(tokens.reply) * weight for tokens, weight in examples))


def measure(trunk: Trunk, examples: Sequence[tuple[Tokens, float]]) -> float:
    """Mean −log π of a reply token under the adapter in training, nats."""
    passes = Forward(trunk, "sft").over(
        [tokens for tokens, _ in examples],
        lambda packed, passed: float(_told(examples, packed, passed.logprobs)),
    )
    return sum(passes) / _count(examples)


def _step(
    trunk: Trunk,
    examples: Sequence[tuple[Tokens, float]],
    weights: list[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    config: SFTConfig,
) -> None:
    optimizer.zero_grad()
    count = _count(examples)
    Forward(trunk, "sft").learn(
        [tokens for tokens, _ in examples],
        lambda packed, logprobs: (_told(examples, packed, logprobs) / count, None),
    )
    ranks.sum_gradients(weights)
    nn.utils.clip_grad_norm_(weights, config.gradient_norm)
    optimizer.step()


def _copied(weights: Sequence[Tensor]) -> list[Tensor]:
    return [weight.detach().clone() for weight in weights]
