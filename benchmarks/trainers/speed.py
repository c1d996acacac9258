"""Samples a second of a whole step: replies sampled, scored, and learnt from.

All trainers are up at once, each in a process of its own that works only in its turn; the turns go round, and every
round begins with another. A turn is as many whole steps as begin within its seconds.

Equal for all: the base in float32 on as many threads, LoRA of rank 16 on all linear layers, the same prompts each
answered as often in each step, temperature 1, the same longest reply, one set of replies learnt from as often and in
as many optimizer steps, a KL penalty against the base. The learning rate is next to nothing, so that all stay at
the base's own replies: no trainer gains by a policy that has learnt to be short. ``tokens`` tells the mean length.

Not equal, since each is as its makers have it: TRL scores with a model of the base's size, Heed with a linear
model on the states of its reference pass. TRL's PPO has a critic of the base's size, which learns whole (``full``)
or, in a second line, on frozen states (``head``), as Heed's does. TRL samples with ``generate`` and its key-value
cache through unmerged LoRA layers, and pads. TRL's RLOO computes the old log-probabilities in a pass of its own.

For TRL: no gradient checkpointing, which else would also turn its key-value cache off, no bfloat16, which this kind
of processor only emulates, no saving, logging once a step at most. ``torch.compile`` was not tried.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.results import Figure, Row
from benchmarks.trainers.children import Child, child, python_of
from feedback.settings import StoreSettings
from training.starter.corpus import held_out_prompts
from training.trunk import LoraShape

BARS = {"trl-ppo": 5.0, "trl-rloo": 3.0}


@dataclass(frozen=True)
class Contender:
    """Who is measured: which environment, which program, and what it alone is told."""

    name: str
    environment: str
    program: str
    told: dict[str, Any] = field(default_factory=dict)


CONTENDERS = (
    Contender("heed-ppo", "heed", "heed_ppo", {"advantage": "gae"}),
    Contender("trl-ppo", "trl-1.12", "trl_ppo", {"critic": "full", "forward_batch": 128}),
    Contender("heed-rloo", "heed", "heed_ppo", {"advantage": "rloo"}),
    Contender("trl-rloo", "trl", "trl_rloo"),
    Contender("trl-ppo-head", "trl-1.12", "trl_ppo", {"critic": "head", "forward_batch": 128}),
)
BESIDE = {"trl-ppo": "heed-ppo", "trl-ppo-head": "heed-ppo", "trl-rloo": "heed-rloo"}


@dataclass(frozen=True)
class Work:
    """What all do alike."""

    rounds: int = 3
    seconds: float = 5.0  # of a turn
    prompts: int = 32
    group: int = 4
    max_tokens: int = 80
    epochs: int = 1
    threads: int = 2
    only: tuple[str, ...] = tuple(one.name for one in CONTENDERS)

    def settings(self) -> dict[str, Any]:
        """What every program is told."""
        shape = LoraShape()
        return {
            "model": StoreSettings().model_path,
            "prompts": held_out_prompts(self.prompts, seed=3),
            "step": self.prompts,
            "group": self.group,
            "reward": None,
            "seed": 0,
            "minibatches": 2,
            "epochs": self.epochs,
            "max_tokens": self.max_tokens,
            "threads": self.threads,
            "learning_rate": 1e-9,
            "beta": 0.05,
            "rank": shape.rank,
            "alpha": shape.alpha,
        }


def measured(work: Work, folder: Path) -> Iterator[Row]:
    """One row a turn. The first round is for warming up and is not told."""
    with ExitStack() as stack:
        up: list[tuple[str, Child]] = []
        for one in CONTENDERS:
            if one.name in work.only:
                log = folder / f"{one.name}.log"
                made = stack.enter_context(child(python_of(one.environment), one.program, log, work.threads))
                made.ask(**work.settings(), **one.told)
                up.append((one.name, made))
        for number in range(work.rounds + 1):
            first = number % len(up)
            for name, made in [*up[first:], *up[:first]]:
                row = made.ask(seconds=work.seconds if number else 0.0)
                if number:
                    yield {"part": "speed", "round": number, "who": name, **row}


def rates(rows: Sequence[Row], who: str) -> list[float]:
    """Samples a second of each turn, by round."""
    turns = sorted((row for row in rows if row["who"] == who), key=lambda row: int(row["round"]))
    return [row["samples"] / row["seconds"] for row in turns]


def figures(rows: Sequence[Row]) -> list[Figure]:
    """A line a peer: Heed's rate on the same algorithm, the peer's, and how many times as fast."""
    lines = []
    for peer, ours in BESIDE.items():
        mine, theirs = rates(rows, ours), rates(rows, peer)
        if not mine or not theirs:
            continue
        times = [a / b for a, b in zip(mine, theirs, strict=True)]
        bar = f"; bar {BARS[peer]:.0f}" if peer in BARS else ""
        lines.append(
            Figure(
                f"samples a second of a whole {NAMES[ours]} step, 2 cores, {len(times)} turns in turn "
                f"(replies of {_length(rows, ours):.0f} tokens)",
                f"{statistics.median(mine):.1f}",
                f"{NAMES[peer]} {statistics.median(theirs):.1f} (of {_length(rows, peer):.0f} tokens): "
                f"{statistics.median(times):.1f} times as fast, {min(times):.1f} to {max(times):.1f} by round{bar}",
            )
        )
    return lines


NAMES = {
    "heed-ppo": "PPO",
    "heed-rloo": "RLOO",
    "trl-ppo": "TRL 1.12 PPO",
    "trl-ppo-head": "TRL 1.12 PPO with a critic on frozen states",
    "trl-rloo": "TRL 1.16 RLOO",
}


def _length(rows: Sequence[Row], who: str) -> float:
    return statistics.mean(float(row["tokens"]) for row in rows if row["who"] == who)
