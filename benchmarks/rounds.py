"""Rounds of learning alone, without servers: votes of a hidden preference, wave after wave, and what is then served.

    python -m benchmarks.rounds --votes 50 100 200 300 --preference polite_helpful --noise 0.25 --seed 0

After each wave a round runs as the worker runs it: two folds, reward model and judge, PPO, gate. What passes is
served, and the next wave votes on its replies. What is served then answers prompts that no training saw, against
the base; the preference itself judges, ties counting half. One line of JSON a round.

The steps end PPO here, not the clock, so that a busy machine shows what a quiet one does: a run of the default 24
steps takes 25 to 45 s of the 60 s that a worker allows it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results import Figure, Row, commit, parser_of, save
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

NAME = "rounds"
DESCRIPTION = (
    "rounds of learning alone, without servers: what is served after 50, 100, 200 and 300 noisy votes"
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
    ppo_seconds: float  # the most that PPO was allowed
    of: str  # the source that ran, as ``results.commit`` tells it
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
    trunk: Trunk,
    judgement: Judgement,
    name: str,
    waves: Sequence[int],
    noise: float,
    seed: int,
    *,
    settings: TrainingSettings,
    of: str,
) -> Iterator[RoundFigures]:
    """One round a wave; ``waves`` are votes cast so far in all."""
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
            rate = (
                candidate
                if candidate is not None and learned.verdict.passed
                else judgement.win_rate(name, served)
            )
            lower, upper = judgement.interval(rate)
            yield RoundFigures(
                preference=name, seed=seed, votes=votes, noise=noise, verdict=_verdict(learned),
                reason=learned.verdict.reason,
                reward_accuracy=judgement.told_apart(name, RewardModel.load(trunk, work / "reward")),
                judge_accuracy=judgement.told_apart(name, RewardModel.load(trunk, work / "reward" / "judge")),
                candidate_win_rate=candidate, win_rate=rate, lower=lower, upper=upper, seconds=seconds,
                ppo_seconds=settings.ppo_seconds, of=of, trained=learned.trained.get("ppo", {}),
            )  # fmt: skip


def _verdict(learned: Learned) -> str:
    return "nothing" if learned.adapter is None else "served" if learned.verdict.passed else "rejected"


def run(arguments: Sequence[str]) -> list[Row]:
    """Every seed with every preference; one row a round, each printed and written down as it comes."""
    told = _parsed(arguments)
    trunk = Trunk.load(StoreSettings().model_path, threads=told.threads)
    judgement = Judgement(trunk, told.held_out)
    settings, of = TrainingSettings(ppo_seconds=told.ppo_seconds), commit()
    done = whole(told.rows, told.votes, told.noise) if told.rows and told.rows.exists() else {}
    asked = [(name, seed) for seed in told.seed for name in told.preference]
    for name, seed in asked:
        if (name, seed) in done:
            continue
        done[name, seed] = []
        for one in rounds(trunk, judgement, name, told.votes, told.noise, seed, settings=settings, of=of):
            done[name, seed].append(asdict(one))
            print(line := json.dumps(done[name, seed][-1]), flush=True)
            if told.rows:
                with told.rows.open("a") as file:
                    file.write(line + "\n")
    rows = [row for run in asked for row in done[run]]
    if told.keep:
        save(NAME, rows, time.monotonic() - sum(row["seconds"] for row in rows))
    return rows


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--votes", type=int, nargs="+", default=[50, 100, 200, 300])
    parser.add_argument("--preference", nargs="+", default=list(PREFERENCES), choices=list(PREFERENCES))
    parser.add_argument("--noise", type=float, default=0.25, help="share of votes that are turned round")
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--held-out", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ppo-seconds", type=float, default=3600.0, help="the most that PPO may take")
    parser.add_argument(
        "--rows", type=Path, help="file to which rows go, and whose whole runs are not done again"
    )
    parser.add_argument("--keep", action="store_true", help="also write results/")
    return parser.parse_args(arguments)


def whole(file: Path, waves: Sequence[int], noise: float) -> dict[tuple[str, int], list[Row]]:
    """Of the rows in ``file`` those of runs that saw every wave at this noise, by preference and seed."""
    runs: dict[tuple[str, int], dict[int, Row]] = {}
    for row in map(json.loads, file.read_text().splitlines()):
        if row["noise"] == noise:
            runs.setdefault((row["preference"], row["seed"]), {})[row["votes"]] = row
    return {run: list(rows.values()) for run, rows in runs.items() if list(rows) == list(waves)}


def figures(rows: Sequence[Row]) -> list[Figure]:
    """What is served after each wave, the worst of all runs first; then every preference's own line."""
    waves, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("votes", "preference"))
    lines = [_after([row for row in rows if row["votes"] == votes]) for votes in waves]
    for name in names:
        seen = [[row for row in rows if row["preference"] == name and row["votes"] == v] for v in waves]
        seeds = sum(row["votes"] == waves[0] for row in rows if row["preference"] == name)
        lines.append(
            Figure(
                f"what is served wins against the base, `{name}`, after {_listed(waves)} votes, median of {seeds} runs",
                _listed(f"{median(row['win_rate'] for row in ones):.0%}" for ones in seen),
                "reward model, unseen pairs told apart: "
                + _listed(f"{median(row['reward_accuracy'] for row in ones):.0%}" for ones in seen),
            )
        )
    return lines


def _after(ones: Sequence[Row]) -> Figure:
    """The line of one wave."""
    least, verdicts = min(ones, key=lambda row: row["win_rate"]), [row["verdict"] for row in ones]
    won = [row["win_rate"] for row in ones]
    return Figure(
        f"rounds alone, {ones[0]['votes']} votes, {ones[0]['noise']:.0%} of them wrong, {len(ones)} runs: what is "
        "served wins against the base, least (95 %) and median",
        f"{least['win_rate']:.0%} ({least['lower']:.0%} to {least['upper']:.0%}), {median(won):.0%}; "
        f"{sum(rate >= 0.8 for rate in won)} runs at 80% or more",
        f"the base: 50%; of the rounds {verdicts.count('served')} published, {verdicts.count('rejected')} refused "
        f"theirs, {verdicts.count('nothing')} made none",
    )


def _listed(parts: Iterable[object]) -> str:
    return ", ".join(map(str, parts))


if __name__ == "__main__":
    run(sys.argv[1:])
