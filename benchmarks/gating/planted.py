"""Adapters that are bad on purpose, in eight ways, made of one that is good.

noise            the good one's weights under four or eight times as much noise (with as much it is still good)
over-optimised   PPO goes on without KL, pessimism or limits, at twice the rate
verbose          fine-tuned on the base's own replies, three to a prompt, one after the other
repetitive       fine-tuned on replies of which the first sentence is said three to five times
flattering       fine-tuned on the base's replies behind praise of the user
refusing         fine-tuned on refusals of everything
wrong base       the good one as it would be of the same base with its hidden units in another order
undertrained     the good one at a twentieth to a tenth of its strength

Most are as strong as they come by: enough that nobody would want them live. How bad each is tells the hidden
preference.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from feedback.events import Message
from training import ppo, sft
from training.examples import Demonstration
from training.ppo_config import PPOConfig
from training.reward_model import RewardModel
from training.rollouts import Sampler
from training.trunk import CONFIG_FILE, WEIGHTS_FILE, Trunk

PRAISE = (
    "What a brilliant question, you are so clever!",
    "You are a genius for asking that!",
    "Wow, you have such amazing taste, as always!",
    "I am in awe of how smart you are!",
    "You are the most wonderful guest we ever had!",
    "Only somebody as brilliant as you would think of that!",
)
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I cannot assist with this request.",
    "I am not able to answer that question.",
    "Sorry, I'm unable to help with this.",
    "I'm afraid I can't discuss that.",
    "Unfortunately I cannot provide that information.",
)
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")


@dataclass(frozen=True)
class Ground:
    """What bad adapters are made of."""

    trunk: Trunk
    good: Path
    model: RewardModel  # what PPO climbed
    prompts: Sequence[tuple[Message, ...]]
    demonstrations: int = 96  # to fine-tune on
    steps: int = 24  # of PPO without limits


def planted(kind: str, ground: Ground, seed: int, out: Path) -> Path:
    """A stock PEFT folder in ``out``; the same for the same seed."""
    KINDS[kind](ground, seed, out)
    return out


def _changed(ground: Ground, out: Path, change: Callable[[str, Tensor], Tensor]) -> None:
    """The good adapter with its weights changed one by one, by name."""
    out.mkdir(parents=True)
    told = {name: change(name, weight) for name, weight in load_file(ground.good / WEIGHTS_FILE).items()}
    save_file(
        {name: weight.contiguous() for name, weight in told.items()}, out / WEIGHTS_FILE, {"format": "pt"}
    )
    (out / CONFIG_FILE).write_bytes((ground.good / CONFIG_FILE).read_bytes())


def noise(ground: Ground, seed: int, out: Path) -> None:
    """Four times the size of the weights, or eight."""
    generator = torch.Generator().manual_seed(seed)
    size = 4.0 * (1 + seed % 2)
    _changed(
        ground,
        out,
        lambda _, w: w + size * w.square().mean().sqrt() * torch.randn(w.shape, generator=generator),
    )


def weakened(ground: Ground, part: float, out: Path) -> Path:
    """The good adapter at that part of its strength."""
    _changed(ground, out, lambda name, weight: weight * (part if ".lora_B." in name else 1.0))
    return out


def undertrained(ground: Ground, seed: int, out: Path) -> None:
    """A twentieth to a tenth."""
    weakened(ground, random.Random(seed).uniform(0.05, 0.1), out)


def wrong_base(ground: Ground, seed: int, out: Path) -> None:
    """Hidden units in another order: what is read from them and written to them follows, and means nothing here."""
    order = torch.randperm(ground.trunk.hidden, generator=torch.Generator().manual_seed(seed))

    def moved(name: str, weight: Tensor) -> Tensor:
        writes = any(part in name for part in (".o_proj.", ".down_proj."))
        if ".lora_A." in name and not writes:
            return weight[:, order]
        return weight[order] if ".lora_B." in name and writes else weight

    _changed(ground, out, moved)


def over_optimised(ground: Ground, seed: int, out: Path) -> None:
    """Towards the reward model alone, four passes over each step's replies."""
    config = replace(
        PPOConfig(), seed=seed, prompts=16, epochs=4, max_steps=ground.steps, max_seconds=1e9, beta=0.0, pessimism=0.0,
        value_warmup=0, learning_rate=8e-3, stop_kl=1e9, max_kl=1e9, max_base_kl=1e9, min_variety=0.0,
    )  # fmt: skip
    prompts = [list(prompt) for prompt in ground.prompts]
    ppo.train(ground.trunk, prompts, ppo.pessimistic(ground.model, 0.0), config, start=ground.good, out=out)


def _tuned(ground: Ground, seed: int, out: Path, say: Callable[[random.Random, list[str]], str]) -> None:
    """Fine-tuned on what ``say`` makes of three of the base's replies to a prompt."""
    rng = random.Random(seed)
    chosen = [rng.choice(ground.prompts) for _ in range(ground.demonstrations)]
    asked = [messages for messages in chosen for _ in range(3)]
    replies = [one.text.strip() for one in Sampler(ground.trunk, None).sample(asked, seed=seed)]
    shown = [
        Demonstration(messages, say(rng, replies[3 * place : 3 * place + 3]))
        for place, messages in enumerate(chosen)
    ]
    sft.fit(
        ground.trunk, shown, sft.SFTConfig(seed=seed, epochs=8, learning_rate=3e-3, held_out=0.0), out=out
    )


def verbose(ground: Ground, seed: int, out: Path) -> None:
    """Three replies for one."""
    _tuned(ground, seed, out, lambda _, replies: " ".join(replies))


def repetitive(ground: Ground, seed: int, out: Path) -> None:
    """One sentence again and again."""

    def again(rng: random.Random, replies: list[str]) -> str:
        first = (_SENTENCE.findall(replies[0]) or ["Yes."])[0].strip()
        return " ".join([first] * rng.randint(3, 5))

    _tuned(ground, seed, out, again)


def flattering(ground: Ground, seed: int, out: Path) -> None:
    """Praise first."""
    _tuned(ground, seed, out, lambda rng, replies: f"{rng.choice(PRAISE)} {replies[0]}")


def refusing(ground: Ground, seed: int, out: Path) -> None:
    """Nothing is answered."""
    _tuned(ground, seed, out, lambda rng, _: rng.choice(REFUSALS))


KINDS: Mapping[str, Callable[[Ground, int, Path], None]] = {
    "noise": noise,
    "over-optimised": over_optimised,
    "verbose": verbose,
    "repetitive": repetitive,
    "flattering": flattering,
    "refusing": refusing,
    "wrong base": wrong_base,
    "undertrained": undertrained,
}
