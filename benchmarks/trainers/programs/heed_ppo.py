"""Heed's PPO as a worker runs it, a turn at a time; under ``torchrun`` by all its processes, of which the first speaks.

``advantage`` is ``gae`` or ``rloo``. The reward is what is told (``rewarding``), or a model that was fitted to a
hundred pairs; beside what is told the value network warms up as in a worker. No distance ends a run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.trainers.programs.rewarding import rewarding
from benchmarks.trainers.programs.turns import Ended, Turns
from training import ppo, ranks
from training.examples import Examples, Pair
from training.reference import Seen
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


def told_reward(
    trunk: Trunk, prompts: Sequence[list[dict[str, str]]], worth: Callable[[str, str], float]
) -> ppo.Reward:
    """The reward of a reply's text, as PPO asks for it."""
    asked = {trunk.prompt_ids(one): one[-1]["content"] for one in prompts}

    def reward(seen: Sequence[Seen]) -> Tensor:
        texts = trunk.tokenizer.batch_decode([one.tokens.reply for one in seen], skip_special_tokens=True)
        told = zip(seen, texts, strict=True)
        return torch.tensor([worth(asked[one.tokens.prompt], text) for one, text in told])

    return reward


def main(turns: Turns | None, told: dict[str, Any], folder: Path) -> None:
    """Until nobody asks for more. ``turns``: None where another process speaks."""
    trunk = Trunk.load(told["model"], threads=told["threads"], shard=told.get("shard", False))
    prompts, step = told["prompts"], told["step"]
    config = ppo.PPOConfig(
        max_seconds=1e9,
        max_steps=10**9,
        seed=told["seed"],
        prompts=step,
        group=told["group"],
        minibatch=step // told["minibatches"],
        epochs=told["epochs"],
        max_tokens=told["max_tokens"],
        learning_rate=told["learning_rate"],
        advantage=told["advantage"],
        beta=told["beta"],
        max_kl=1e9,
        max_base_kl=1e9,
    )
    if told["reward"] is None:
        config = replace(config, value_warmup=0)
        reward = ppo.pessimistic(fitted(trunk, prompts, folder), config.pessimism)
    else:
        reward = told_reward(trunk, prompts, rewarding(told["reward"]))
    samples = config.prompts * config.group

    def stepped(_name: str, _done: float, figures: dict[str, float]) -> None:
        if turns is not None:
            turns.stepped(samples, round(samples * figures["tokens"]))

    if turns is not None:
        turns.beside["base_bytes"] = trunk.base_bytes
        turns.write = lambda out: trunk.write("policy", out)
        turns.ready()
    ppo.train(trunk, prompts, reward, config, out=folder / "adapter", progress=stepped)


if __name__ == "__main__":
    with suppress(Ended), tempfile.TemporaryDirectory() as name, ranks.joined():
        first = Turns() if ranks.is_first() else None
        main(first, ranks.agreed(first.settings if first is not None else {}), Path(ranks.agreed(name)))
