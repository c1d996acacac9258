"""Rounds of learning alone, without servers: votes of a hidden preference, wave after wave, and what is then served.

    python -m benchmarks.rounds --votes 50 100 200 400 --preference polite_helpful --noise 0.2 --seed 0

After each wave a round runs as the worker runs it: two folds, reward model and judge, PPO, gate. What passes is
served, and the next wave votes on its replies. What is served then answers prompts that no training saw, against
the base; the preference itself judges, ties counting half. One line of JSON a round.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.results import Figure, Row, parser_of
from deploy.preferences import LIKED_FROM, PREFERENCES
from deploy.quality import held_out, wilson
from deploy.simulate import TIE_MARGIN
from feedback.events import Message
from feedback.settings import StoreSettings
from training.examples import Examples, Pair, Thumb
from training.learning import Learned, learn
from training.reference import Seen, look
from training.reward_model import RewardModel, RewardReport
from training.rollouts import Sampler
from training.settings import TrainingSettings
from training.splits import split_of
from training.starter.corpus import dialogs
from training.trunk import Trunk

DESCRIPTION = (
    "rounds of learning alone, without servers: what is served after 50, 100, 200 and 400 noisy votes"
)
Prompt = tuple[Message, ...]
SUBJECTS = 16
THREE = ["polite_helpful", "brief", "concrete"]


@dataclass(frozen=True)
class RoundFigures:
    """What one round showed. Times in seconds of wall clock."""

    preference: str
    seed: int
    votes: int
    noise: float
    verdict: str  # "served", "rejected" or "nothing"
    reason: str
    reward_accuracy: float  # share of unseen pairs, ties left out, of which the reward model tells the better
    judge_accuracy: float
    candidate_win_rate: float | None  # None when nothing was trained
    win_rate: float  # of what is served now
    lower: float
    upper: float
    seconds: float
    trained: dict[str, Any] = field(default_factory=dict)


class Voters:
    """Comparisons and thumbs in turn on replies to the starter's stream of prompts."""

    def __init__(self, trunk: Trunk, preference: str, noise: float, seed: int, holdout_share: float) -> None:
        self._trunk, self._name, self._noise = trunk, preference, noise
        self._score, self._holdout = PREFERENCES[preference], holdout_share
        self._rng = random.Random(f"votes:{seed}")
        self._stream, self._seed = dialogs(1000 + seed), seed
        self._count = 0
        self.examples = Examples([], [], (), [])

    def vote(self, served: Path | None, until: int) -> None:
        """Vote on replies of what is served until so many votes have been cast in all."""
        prompts: list[Prompt] = [tuple(next(self._stream)[:-1]) for _ in range(until - self._count)]
        replies = sampled_twice(self._trunk, served, prompts, self._seed * 1000 + until)
        pairs, thumbs = list(self.examples.pairs), list(self.examples.thumbs)
        for messages, (a, b) in zip(prompts, replies, strict=True):
            subject = f"s{self._rng.randrange(SUBJECTS)}"
            split = split_of(messages, subject, self._holdout)
            if self._count % 2:
                thumbs.append(Thumb(messages, a, self._likes(messages, a), subject, split=split))
            else:
                pairs.append(self._compared(messages, a, b, subject, split))
            self._count += 1
        self.examples = Examples(pairs, thumbs, (), [*self.examples.prompts, *prompts])

    def _likes(self, messages: Prompt, text: str) -> bool:
        liked = self._score(messages[-1]["content"], text) > LIKED_FROM[self._name]
        return liked != (self._rng.random() < self._noise)

    def _compared(self, messages: Prompt, a: str, b: str, subject: str, split: Any) -> Pair:
        first, second = (self._score(messages[-1]["content"], text) for text in (a, b))
        if abs(first - second) < TIE_MARGIN:
            return Pair(messages, a, b, "tie", subject, split=split)
        better, worse = (a, b) if (first > second) != (self._rng.random() < self._noise) else (b, a)
        return Pair(messages, better, worse, "win", subject, split=split)


class Silent:
    """Nobody watches a benchmark's rounds."""

    def step(self, name: str, fraction: float) -> None: ...

    def progress(self, name: str, fraction: float, figures: Mapping[str, float]) -> None: ...

    def fitted(self, reward: RewardReport, judge: RewardReport) -> None: ...

    def should_stop(self) -> bool:
        return False


def sampled_twice(
    trunk: Trunk, adapter: Path | None, prompts: Sequence[Prompt], seed: int
) -> list[tuple[str, str]]:
    """Two replies to each prompt."""
    twice = [messages for messages in prompts for _ in range(2)]
    texts = [reply.text for reply in Sampler(trunk, adapter).sample(twice, seed=seed)]
    return list(zip(texts[::2], texts[1::2], strict=True))


class Judgement:
    """The preference's own verdict on prompts that no training saw."""

    def __init__(self, trunk: Trunk, count: int) -> None:
        self._trunk = trunk
        self._prompts: list[Prompt] = [tuple(dict(m) for m in messages) for messages in held_out(count)]
        self._base = sampled_twice(trunk, None, self._prompts, 17)

    @cached_property
    def _seen(self) -> list[list[Seen]]:
        """The base's look at its replies, which is the same for every reward model; by side."""
        return [
            look(
                self._trunk,
                [
                    self._trunk.tokens(m, pair[side])
                    for m, pair in zip(self._prompts, self._base, strict=True)
                ],
            )
            for side in (0, 1)
        ]

    def win_rate(self, name: str, adapter: Path | None) -> float:
        """Of the adapter over the base, ties half; a half for the base itself."""
        if adapter is None:
            return 0.5
        ours = [reply.text for reply in Sampler(self._trunk, adapter).sample(self._prompts, seed=23)]
        points = self._points(name, ours, [first for first, _ in self._base])
        return sum(points) / len(points)

    def told_apart(self, name: str, model: RewardModel) -> float:
        """Share of the base's pairs, ties left out, in which the reward model tells the better reply."""
        sides = [model.score_seen(seen).mean for seen in self._seen]
        truth = self._points(name, *([pair[side] for pair in self._base] for side in (0, 1)))
        right = [
            float(a > b) == t
            for a, b, t in zip(sides[0].tolist(), sides[1].tolist(), truth, strict=True)
            if t != 0.5
        ]
        return sum(right) / max(1, len(right))

    def interval(self, rate: float) -> tuple[float, float]:
        """Wilson's 95 % interval of a rate measured here."""
        return wilson(rate, len(self._prompts))

    def _points(self, name: str, ours: Sequence[str], theirs: Sequence[str]) -> list[float]:
        score, told = PREFERENCES[name], []
        for messages, a, b in zip(self._prompts, ours, theirs, strict=True):
            first, second = (score(messages[-1]["content"], text) for text in (a, b))
            told.append(0.5 if first == second else float(first > second))
        return told


def rounds(
    trunk: Trunk, judgement: Judgement, name: str, waves: Sequence[int], noise: float, seed: int
) -> Iterator[RoundFigures]:
    """One round a wave; ``waves`` are votes cast so far in all."""
    settings = TrainingSettings()
    voters = Voters(trunk, name, noise, seed, settings.holdout_share)
    served: Path | None = None
    with tempfile.TemporaryDirectory() as folder:
        for votes in waves:
            voters.vote(served, votes)
            work, began = Path(folder) / str(votes), time.monotonic()
            learned = learn(
                trunk, voters.examples, served, settings,
                work=work, rewards=work / "reward", seed=votes, watcher=Silent(),
            )  # fmt: skip
            seconds = time.monotonic() - began
            candidate = judgement.win_rate(name, learned.adapter) if learned.adapter else None
            served = learned.adapter if learned.verdict.passed and learned.adapter else served
            rate = candidate if served == learned.adapter else judgement.win_rate(name, served)
            lower, upper = judgement.interval(rate or 0.5)
            yield RoundFigures(
                preference=name, seed=seed, votes=votes, noise=noise, verdict=_verdict(learned),
                reason=learned.verdict.reason,
                reward_accuracy=judgement.told_apart(name, RewardModel.load(trunk, work / "reward")),
                judge_accuracy=judgement.told_apart(name, RewardModel.load(trunk, work / "reward" / "judge")),
                candidate_win_rate=candidate, win_rate=rate or 0.5, lower=lower, upper=upper, seconds=seconds,
                trained=learned.trained.get("ppo", {}),
            )  # fmt: skip


def _verdict(learned: Learned) -> str:
    return "nothing" if learned.adapter is None else "served" if learned.verdict.passed else "rejected"


def run(arguments: Sequence[str]) -> list[Row]:
    """Every preference with every seed; one row a round, each printed as it comes."""
    parser = parser_of(__doc__)
    parser.add_argument("--votes", type=int, nargs="+", default=[50, 100, 200, 400])
    parser.add_argument("--preference", nargs="+", default=THREE, choices=list(PREFERENCES))
    parser.add_argument("--noise", type=float, default=0.2)
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--held-out", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    told = parser.parse_args(arguments)
    trunk = Trunk.load(StoreSettings().model_path, threads=told.threads)
    judgement = Judgement(trunk, told.held_out)
    rows = []
    for name in told.preference:
        for seed in told.seed:
            for one in rounds(trunk, judgement, name, told.votes, told.noise, seed):
                rows.append(asdict(one))
                print(json.dumps(rows[-1]), flush=True)
    return rows


def figures(rows: Sequence[Row]) -> list[Figure]:
    """What is served after each round, and how well the reward model knows; one line a preference and seed."""
    runs: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        runs.setdefault((row["preference"], row["seed"]), []).append(row)
    lines = []
    for (name, seed), ones in runs.items():
        of = f"after {', '.join(str(row['votes']) for row in ones)} votes, `{name}`, seed {seed}"
        won = [f"{row['win_rate']:.0%}" for row in ones]
        knew = [f"{row['reward_accuracy']:.0%}" for row in ones]
        lines += [
            Figure(
                f"rounds alone: what is served wins against the base, {of}", ", ".join(won), "the base: 50%"
            ),
            Figure(f"reward model, unseen pairs told apart, {of}", ", ".join(knew), "a coin: 50%"),
        ]
    return lines


if __name__ == "__main__":
    run(sys.argv[1:])
