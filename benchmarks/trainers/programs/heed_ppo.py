"""Heed's PPO as a worker runs it, a turn at a time; under ``torchrun`` by all its processes, of which the first speaks.

``advantage`` is ``gae`` or ``rloo``. The reward model is one that was fitted to a hundred pairs.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.trainers.programs.turns import Ended, Turns
from training import ppo, ranks
from training.examples import Examples, Pair
from training.reward_model import RewardConfig, RewardModel, fit
from training.rollouts import Sampler
from training.trunk import Trunk

PAIRS = 100


def fitted(trunk: Trunk, prompts: list[list[dict[str, str]]], folder: Path) -> RewardModel:
    """A reward model of any taste: the longer of two replies is the better one."""
    asked = [prompts[place % len(prompts)] for place in range(PAIRS) for _ in range(2)]
    texts = [reply.text for reply in Sampler(trunk).sample(asked, seed=1)]
    pairs = [
        Pair(tuple(messages), max(a, b, key=len), min(a, b, key=len), "win")
        for messages, a, b in zip(asked[::2], texts[::2], texts[1::2], strict=True)
    ]
    model, _ = fit(trunk, Examples(pairs=pairs), RewardConfig(), out=folder)
    return model


def main(turns: Turns | None, told: dict[str, Any], folder: Path) -> None:
    """Until nobody asks for more. ``turns``: None where another process speaks."""
    trunk = Trunk.load(told["model"], threads=told["threads"])
    prompts = told["prompts"]
    config = ppo.PPOConfig(
        max_seconds=1e9,
        max_steps=10**9,
        prompts=len(prompts),
        group=told["group"],
        minibatch=len(prompts) // told["minibatches"],
        epochs=told["epochs"],
        max_tokens=told["max_tokens"],
        learning_rate=told["learning_rate"],
        value_warmup=0,
        advantage=told["advantage"],
        beta=told["beta"],
    )
    reward = ppo.pessimistic(fitted(trunk, prompts, folder), config.pessimism)
    samples = config.prompts * config.group

    def stepped(_name: str, _done: float, figures: dict[str, float]) -> None:
        if turns is not None:
            turns.stepped(samples, round(samples * figures["tokens"]))

    if turns is not None:
        turns.ready()
    ppo.train(trunk, prompts, reward, config, out=folder / "adapter", progress=stepped)


if __name__ == "__main__":
    with suppress(Ended), tempfile.TemporaryDirectory() as name, ranks.joined():
        first = Turns() if ranks.is_first() else None
        main(first, ranks.agreed(first.settings if first is not None else {}), Path(ranks.agreed(name)))
