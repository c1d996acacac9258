"""The reward model on equal votes: who tells the better of two replies, how sure each is, and what length adds.

Simulated raters with a hidden preference compare two replies of the base to one prompt. The nearest fifth of the pairs
are called a tie; of the other verdicts a quarter are turned round. Both sides learn from the same 100, 300 and 1,000
votes of each seed; replies to prompts in wordings that nothing was trained on are then scored.

accuracy    of the pairs that are no tie, the share in which the reply that the preference likes better scores higher
calibration expected calibration error, over ten bins, of the probability that a vote says the first; what came
            true is the probability that a rater says so, noise included, so that no noise of drawing is left in it
length      correlation of scores and words over all replies; ``bias``: the same of what is left of both when what
            the preference itself explains is taken out, since a preference may be for length, too

RewardTrainer gets LoRA of Heed's shape and a head, three epochs in batches of eight, its probability σ(s_a − s_b), and
the best of three learning rates: the one with the highest held-out accuracy over the seeds, which is more than a
user could know. It cannot be given ties: they are left out. Heed learns from all votes alike, ties included, and
finds its settings by itself. Its probability is σ(s_a − s_b) as it calibrated it, with a temperature and a share of
lapses. A second fit of it takes out what scores owe to length, as its setting can.
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import torch
from torch import Tensor

from benchmarks.results import Figure, Row, paired
from benchmarks.rounds import sampled_twice
from benchmarks.trainers.children import Child, child, python_of
from deploy.preferences import PREFERENCES, words
from deploy.quality import held_out
from feedback.events import Message
from feedback.settings import StoreSettings
from training.examples import Examples, Pair
from training.reward_model import RewardConfig, expected_calibration_error, fit
from training.starter.corpus import dialogs
from training.trunk import LoraShape, Trunk

OURS = {"heed": RewardConfig(), "heed-length-out": RewardConfig(length=0.0)}
SAME = (
    "preference",
    "seed",
    "votes",
    "ties",
    "held_out",
)  # what two fits must share to stand beside each other
BARS = {"points": 2.0, "calibration": 0.05, "length": 0.1}


@dataclass(frozen=True)
class Trial:
    """What is tried."""

    preferences: tuple[str, ...] = ("polite_helpful",)
    seeds: tuple[int, ...] = (0, 1, 2)
    votes: tuple[int, ...] = (100, 300, 1000)
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    held_out: int = 800
    noise: float = 0.25
    ties: float = 0.2
    epochs: int = 3
    batch: int = 8
    lanes: int = 2  # fits of RewardTrainer at once, each on one core, which is faster than one on two


@dataclass(frozen=True)
class Compared:
    """Two replies to each of some prompts, and what the preference makes of them."""

    prompts: list[tuple[Message, ...]]
    replies: list[tuple[str, str]]
    gold: Tensor  # (n, 2)

    @property
    def gap(self) -> Tensor:
        """How much more the first is liked (n,)."""
        return self.gold[:, 0] - self.gold[:, 1]

    def margin(self, ties: float) -> float:
        """The gap that this share of the pairs does not exceed."""
        return float(self.gap.abs().quantile(ties))


def compared(trunk: Trunk, prompts: Sequence[Sequence[Mapping[str, str]]], name: str, seed: int) -> Compared:
    """The base's replies."""
    asked = [tuple(dict(one) for one in messages) for messages in prompts]
    replies = sampled_twice(trunk, None, asked, seed)
    return judged(asked, replies, name)


def judged(asked: list[tuple[Message, ...]], replies: list[tuple[str, str]], name: str) -> Compared:
    """Replies as a preference sees them."""
    score = PREFERENCES[name]
    gold = [[score(m[-1]["content"], text) for text in two] for m, two in zip(asked, replies, strict=True)]
    return Compared(asked, replies, torch.tensor(gold))


def voted(shown: Compared, trial: Trial, seed: int) -> list[Pair]:
    """What the raters say."""
    rng, margin = random.Random(f"reward votes {seed}"), shown.margin(trial.ties)
    pairs = []
    for messages, (a, b), gap in zip(shown.prompts, shown.replies, shown.gap.tolist(), strict=True):
        turned, subject = rng.random() < trial.noise, f"s{rng.randrange(16)}"
        if abs(gap) <= margin:
            pairs.append(Pair(messages, a, b, "tie", subject))
        else:
            first, second = (a, b) if (gap > 0) != turned else (b, a)
            pairs.append(Pair(messages, first, second, "win", subject))
    return pairs


def told_of(scores: Tensor, sure: Callable[[Tensor], Tensor], seen: Compared, trial: Trial) -> Row:
    """The figures of scores (n, 2); ``sure`` makes of their differences the probability of the first."""
    decided = seen.gap.abs() > seen.margin(trial.ties)
    gap, d = seen.gap[decided], (scores[:, 0] - scores[:, 1])[decided]
    right = (d * gap > 0).float() + 0.5 * (d == 0).float()
    said = torch.where(gap > 0, 1 - trial.noise, trial.noise)
    length = torch.tensor([[float(words(text)) for text in two] for two in seen.replies])
    return {
        "held_out": len(seen.prompts),
        "accuracy": float(right.mean()),
        "calibration_error": expected_calibration_error(sure(d), said),
        "length": correlation(scores, length),
        "length_bias": correlation(without(scores, seen.gold), without(length, seen.gold)),
        "length_of_preference": correlation(seen.gold, length),
    }


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's; 0 where one is constant."""
    a, b = a.flatten() - a.mean(), b.flatten() - b.mean()
    return float((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-9))


def without(a: Tensor, b: Tensor) -> Tensor:
    """What of ``a`` a line in ``b`` does not explain."""
    a, b = a.flatten() - a.mean(), b.flatten() - b.mean()
    return a - b * (a * b).sum() / b.square().sum().clamp(min=1e-9)


@dataclass(frozen=True)
class Fit:
    """One set of votes: the first so many of a seed's."""

    preference: str
    seed: int
    pairs: list[Pair]

    def row(self, who: str, rate: float, seconds: float, told: Row) -> Row:
        """A row of the results."""
        return {
            "part": "reward", "who": who, "preference": self.preference, "seed": self.seed,
            "votes": len(self.pairs), "ties": sum(pair.outcome == "tie" for pair in self.pairs), "rate": rate,
            "seconds": round(seconds, 2), **told,
        }  # fmt: skip


def measured(trial: Trial, folder: Path) -> Iterator[Row]:
    """One row a fit: Heed's, then each rate of RewardTrainer's."""
    trunk = Trunk.load(StoreSettings().model_path, threads=2)
    unseen = compared(trunk, held_out(trial.held_out, seed=11), trial.preferences[0], 17)
    shown = []
    for seed in trial.seeds:
        stream = dialogs(2000 + seed)
        asked = [tuple(next(stream)[:-1]) for _ in range(max(trial.votes))]
        shown.append(compared(trunk, asked, trial.preferences[0], 31 + seed))
    for name in trial.preferences:
        held = judged(unseen.prompts, unseen.replies, name)
        fits = []
        for seed, replied in zip(trial.seeds, shown, strict=True):
            votes = voted(judged(replied.prompts, replied.replies, name), trial, seed)
            fits += [Fit(name, seed, votes[:count]) for count in trial.votes]
        yield from _heed(trunk, fits, held, trial, folder)
        yield from _trl(fits, held, trial, folder)


def _heed(trunk: Trunk, fits: Sequence[Fit], held: Compared, trial: Trial, folder: Path) -> Iterator[Row]:
    for one in fits:
        for who, config in OURS.items():
            began = time.monotonic()
            model, _ = fit(trunk, Examples(pairs=one.pairs), config, out=folder / "reward")
            seconds = time.monotonic() - began
            scores = model.score(_all(held)).mean.view(-1, 2)
            yield one.row(who, 0.0, seconds, told_of(scores, model.preferred, held, trial))


def _trl(fits: Sequence[Fit], held: Compared, trial: Trial, folder: Path) -> Iterator[Row]:
    shape = LoraShape()
    settings = {
        "model": StoreSettings().model_path, "rank": shape.rank, "alpha": shape.alpha, "threads": 1,
        "epochs": trial.epochs, "batch": trial.batch,
        "conversations": [[*m, {"role": "assistant", "content": text}] for m, text in _all(held)],
    }  # fmt: skip
    if not trial.rates:
        return
    with ExitStack() as stack:
        free: SimpleQueue[Child] = SimpleQueue()
        for lane in range(trial.lanes):
            log = folder / f"trl-reward-{lane}.log"
            made = stack.enter_context(child(python_of("trl"), "trl_reward", log, 1))
            made.ask(**settings)
            free.put(made)
        pool = stack.enter_context(ThreadPoolExecutor(trial.lanes))

        def fitted(job: tuple[Fit, float]) -> Row:
            one, rate = job
            made = free.get()
            answer = made.ask(pairs=_chosen(one.pairs), rate=rate, seed=one.seed)
            free.put(made)
            told = told_of(torch.tensor(answer["scores"]).view(-1, 2), torch.sigmoid, held, trial)
            return one.row("trl", rate, answer["seconds"], told)

        yield from pool.map(fitted, [(one, rate) for one in fits for rate in trial.rates])


def _all(held: Compared) -> list[tuple[tuple[Message, ...], str]]:
    """Every reply with its prompt, two by two."""
    return [(m, text) for m, two in zip(held.prompts, held.replies, strict=True) for text in two]


def _chosen(pairs: Sequence[Pair]) -> list[Row]:
    """As RewardTrainer takes them, without ties."""
    return [
        {
            "prompt": list(pair.messages),
            "chosen": [{"role": "assistant", "content": pair.a}],
            "rejected": [{"role": "assistant", "content": pair.b}],
        }
        for pair in pairs
        if pair.outcome == "win"
    ]


def best_rate(rows: Sequence[Row]) -> list[Row]:
    """Of RewardTrainer's rows those of the learning rate that tells most over the seeds."""
    by_rate: dict[float, list[Row]] = {}
    for row in rows:
        by_rate.setdefault(row["rate"], []).append(row)
    return max(
        by_rate.values(), key=lambda ones: statistics.mean(one["accuracy"] for one in ones), default=[]
    )


def stands(row: Row, rows: Sequence[Row]) -> bool:
    """Whether RewardTrainer's ``row`` of an earlier run belongs beside ``rows``: of Heed alone, from the same votes."""
    if row.get("who") != "trl" or any(one.get("who") == "trl" for one in rows):
        return False
    return any(all(row[key] == one.get(key) for key in SAME) for one in rows)


def figures(rows: Sequence[Row]) -> list[Figure]:
    """Three lines for each preference and number of votes."""
    lines = []
    for name, votes in dict.fromkeys((row["preference"], row["votes"]) for row in rows):
        here = [row for row in rows if (row["preference"], row["votes"]) == (name, votes)]
        ours = [row for row in here if row["who"] == "heed"]
        short = [row for row in here if row["who"] == "heed-length-out"]
        theirs = best_rate([row for row in here if row["who"] == "trl"])
        if not ours or not theirs:
            continue
        of = f"from {votes:,} votes, a quarter of them wrong, a fifth ties, `{name}`, {len(ours)} seeds"
        trl = f"TRL 1.16 RewardTrainer, best of three rates ({theirs[0]['rate']:g})"
        by_seed = {row["seed"]: row["accuracy"] for row in theirs}
        points = paired([100 * (row["accuracy"] - by_seed[row["seed"]]) for row in ours])

        def line(what: str, told: Callable[[Sequence[Row]], str], bar: str) -> Figure:
            return Figure(f"reward model {of}: {what}", told(ours), f"{trl}: {told(theirs)}; bar {bar}")  # noqa: B023

        lines += [
            line(
                "better reply told on unseen prompts",
                lambda them: f"{_mean(them, 'accuracy'):.1%}",
                f"{BARS['points']:.0f} points more; it is {points}",
            ),
            line(
                "calibration error",
                lambda them: f"{_mean(them, 'calibration_error'):.3f}",
                f"{BARS['calibration']}",
            ),
            line(
                f"correlation with length (the preference's own: {_mean(here, 'length_of_preference'):.2f})",
                lambda them: (
                    f"{_size(them, 'length'):.2f}, beyond the preference {_size(them, 'length_bias'):.2f}"
                ),
                f"{BARS['length']}",
            ),
        ]
        if short:
            lines.append(
                Figure(
                    f"reward model {of}, length taken out (`HEED_REWARD_LENGTH=0`)",
                    f"correlation with length {_size(short, 'length'):.2f}",
                    f"better reply told {_mean(short, 'accuracy'):.1%}, "
                    f"calibration error {_mean(short, 'calibration_error'):.3f}",
                )
            )
    return lines


def _mean(rows: Sequence[Row], what: str) -> float:
    return math.fsum(row[what] for row in rows) / len(rows)


def _size(rows: Sequence[Row], what: str) -> float:
    """Mean of sizes: seeds that err to both sides do not make up for each other."""
    return math.fsum(abs(row[what]) for row in rows) / len(rows)
