"""Quality of the algorithms alone, without servers: noisy votes of a hidden preference → adapter → win rate.

    python -m benchmarks.loop_quality --votes 50 200 400 --preference polite_helpful --noise 0.2 --seed 0

Votes fall on replies of the base to prompts of the starter's stream; the reward model learns from them, PPO
from the reward model, and the adapter answers held-out prompts against the base. The preference itself judges,
ties counting half. One line of JSON a run; times are wall clock on ``--threads`` threads.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from deploy.preferences import LIKED_FROM, PREFERENCES
from deploy.quality import held_out, wilson
from deploy.simulate import TIE_MARGIN
from feedback.events import Message
from feedback.settings import StoreSettings
from training import ppo, reward_model
from training.examples import Examples, Pair, Thumb
from training.rollouts import Sampler
from training.starter.corpus import dialogs
from training.trunk import Trunk

Prompt = tuple[Message, ...]


def vote(
    prompts: Sequence[Prompt], replies: Sequence[tuple[str, str]], name: str, noise: float, seed: int
) -> Examples:
    """Comparisons and thumbs in turn, a tenth held out; each is turned round with probability ``noise``."""
    rng, score = random.Random(f"votes:{seed}"), PREFERENCES[name]
    pairs, thumbs = [], []
    for index, (messages, (a, b)) in enumerate(zip(prompts, replies, strict=True)):
        first, second = (score(messages[-1]["content"], text) for text in (a, b))
        split: Any = "holdout" if index % 20 in (8, 19) else "train"
        turned = rng.random() < noise
        if index % 2:
            liked = (first > LIKED_FROM[name]) != turned
            thumbs.append(Thumb(messages, a, liked, subject=f"s{index % 16}", split=split))
        elif abs(first - second) < TIE_MARGIN:
            pairs.append(Pair(messages, a, b, "tie", split=split))
        else:
            better, worse = (a, b) if (first > second) != turned else (b, a)
            pairs.append(Pair(messages, better, worse, "win", split=split))
    return Examples(pairs, thumbs, (), list(prompts))


def points(name: str, prompts: Sequence[Prompt], ours: Sequence[str], theirs: Sequence[str]) -> list[float]:
    """1, ½ or 0 a prompt by the preference."""
    told = []
    for messages, a, b in zip(prompts, ours, theirs, strict=True):
        first, second = (PREFERENCES[name](messages[-1]["content"], text) for text in (a, b))
        told.append(0.5 if first == second else float(first > second))
    return told


def told_apart(
    model: reward_model.RewardModel,
    name: str,
    prompts: Sequence[Prompt],
    replies: Sequence[tuple[str, str]],
) -> float:
    """Share of held-out pairs, ties left out, in which the reward model tells the better reply."""
    a = model.score([(messages, pair[0]) for messages, pair in zip(prompts, replies, strict=True)]).mean
    b = model.score([(messages, pair[1]) for messages, pair in zip(prompts, replies, strict=True)]).mean
    truth = points(name, prompts, [pair[0] for pair in replies], [pair[1] for pair in replies])
    right = [float(x > y) == t for x, y, t in zip(a.tolist(), b.tolist(), truth, strict=True) if t != 0.5]
    return sum(right) / max(1, len(right))


class Bench:
    """What all runs share: the base, its replies to the voters' prompts, its replies to the held-out ones."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.trunk = Trunk.load(StoreSettings().model_path, threads=arguments.threads)
        stream = dialogs(1000 + arguments.seed)
        self.prompts = [tuple(next(stream)[:-1]) for _ in range(max(arguments.votes))]
        self.replies = self._pairs(self.prompts, arguments.seed)
        self.held: list[Prompt] = [
            tuple(dict(one) for one in messages) for messages in held_out(arguments.held_out)
        ]
        self.base = self._pairs(self.held, 17)

    def _pairs(self, prompts: Sequence[Prompt], seed: int) -> list[tuple[str, str]]:
        twice = [messages for messages in prompts for _ in range(2)]
        texts = [reply.text for reply in Sampler(self.trunk).sample(twice, seed=seed)]
        return list(zip(texts[::2], texts[1::2], strict=True))

    def run(self, name: str, votes: int, folder: Path) -> dict[str, Any]:
        """One round: votes to adapter to win rate."""
        told = self.arguments
        examples = vote(self.prompts[:votes], self.replies[:votes], name, told.noise, told.seed)
        began = time.monotonic()
        model, report = reward_model.fit(
            self.trunk, examples, reward_model.RewardConfig(), out=folder / "reward"
        )
        fitted = time.monotonic()
        config = replace(ppo.PPOConfig(seed=told.seed), **json.loads(told.ppo))
        run = ppo.train(
            self.trunk,
            examples.prompts,
            ppo.pessimistic(model, config.pessimism),
            config,
            out=folder / "adapter",
        )
        trained = time.monotonic()
        ours = Sampler(self.trunk, folder / "adapter").sample(self.held, seed=23)
        won = points(name, self.held, [reply.text for reply in ours], [pair[0] for pair in self.base])
        rate = sum(won) / len(won)
        lower, upper = wilson(rate, len(won))
        figures = {key: value for key, value in asdict(run).items() if key != "curve"}
        if told.curve:
            figures["curve"] = run.curve[:: max(1, len(run.curve) // 10)]
        return {
            "preference": name,
            "votes": votes,
            "noise": told.noise,
            "seed": told.seed,
            "reward_accuracy": told_apart(model, name, self.held, self.base),
            "fold_accuracy": report.fold_accuracy,
            "win_rate": rate,
            "lower": lower,
            "upper": upper,
            "reward_seconds": fitted - began,
            "ppo_seconds": trained - fitted,
            "sample_seconds": time.monotonic() - trained,
            "threads": torch.get_num_threads(),
            "ppo": figures,
            "examples": [reply.text for reply in ours[: told.show]],
        }


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--votes", type=int, nargs="+", default=[400])
    parser.add_argument("--preference", nargs="+", default=["polite_helpful"], choices=list(PREFERENCES))
    parser.add_argument("--noise", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ppo", default="{}", help="settings of PPOConfig to change, as JSON")
    parser.add_argument("--curve", action="store_true", help="figures of every tenth of the run")
    parser.add_argument("--show", type=int, default=0, help="how many replies to print")
    return parser.parse_args()


def main() -> None:
    """Every preference with every number of votes."""
    told = arguments()
    bench = Bench(told)
    for name in told.preference:
        for votes in told.votes:
            with tempfile.TemporaryDirectory() as folder:
                print(json.dumps(bench.run(name, votes, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
