"""The reward model: pairs, ties and thumbs to a score of any reply, with its own uncertainty.

Votes are few and noisy at the start of a loop, so the model is small and convex: a linear score over fixed
features (``reward_features``), pulled to zero. It has one optimum, which takes seconds and does not hang on
where the last fit ended, so every fit is a full one. Several further heads, each fitted to a resample of the
votes and pulled to a random point of the prior (Osband et al. 2018), tell how sure it is.

    pairs     Davidson (1970): P(a≻b) ∝ e^(d/2), P(tie) ∝ ν, P(b≻a) ∝ e^(−d/2), with d = s_a − s_b
    thumbs    logistic: P(up) = σ(s − b − b_subject), the subject's own offset pulled to zero
    both bad  a tie, and each of the two half a thumb down
    criteria  a fit for each of which enough was said; their weighted sum is the score (``criteria``)
    length    what the scores of the replies voted on owe to their number of words may be taken out (as ODIN does
              with a head of its own; Chen et al. 2024): the weight of that number is moved until they correlate no more
    T, ε      one temperature and one share of lapses for all probabilities, from votes left out (``calibration``)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

import orjson
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from feedback.events import Message
from training import ranks
from training.calibration import GRID, UNTOUCHED, Calibration
from training.criteria import Part, heads_of, named, parts
from training.examples import OVERALL, Examples
from training.reference import Seen, look
from training.reward_features import Standard, less_length, raw_features
from training.reward_heads import Head, RewardConfig, Shortened, Votes, fit_heads, summed, vote_nll
from training.trunk import Trunk

__all__ = [
    "Progress",
    "Reward",
    "RewardConfig",
    "RewardModel",
    "RewardReport",
    "RewardScores",
    "fit",
    "pessimistic",
]
Progress: TypeAlias = Callable[[str, float, dict[str, float]], None]
Reward: TypeAlias = Callable[[Sequence[Seen]], Tensor]
"""Replies that the base has looked at to their scores (n,)."""

FILE = "reward.safetensors"
ALL = ""
"""All votes, beside the names of heads."""
CRITERION = "criterion."
"""Before a criterion's name: its head in the file."""


@dataclass(frozen=True)
class CriterionReport:
    """A head of the sum."""

    weight: float  # of its score in the sum; all weights sum to 1
    votes: float  # weight of the votes it was fitted on
    fold_accuracy: float  # of its own votes, each told by a fit that left its part out


@dataclass(frozen=True)
class RewardReport:
    """What the fit showed on votes it did not learn from. A vote is told by the heads of what it is about."""

    pairs: int
    thumbs: int
    holdout: int
    accuracy: float  # share of held-out votes (ties left out) whose side it tells
    nll: float  # mean negative log-likelihood of held-out votes, nats
    train_accuracy: float
    calibration_error: float  # expected calibration error over ten bins, in [0, 1]
    temperature: float  # above 1: the fit was too sure of itself
    lapse: float  # share of votes taken to be turned round whatever was shown
    tie_log_odds: float  # log ν
    fold_accuracy: float  # as ``accuracy``, of every training vote by a fit that left its part out
    criteria: Mapping[str, CriterionReport] = field(default_factory=dict)


@dataclass(frozen=True)
class RewardScores:
    """Scores of replies, standardised: 0 and 1 are mean and deviation over the replies it was fitted on."""

    mean: Tensor
    std: Tensor  # disagreement of the heads


def expected_calibration_error(probability: Tensor, outcome: Tensor, bins: int = 10) -> float:
    """Mean gap between confidence and frequency over equal-width bins, weighted by size. Both (n,)."""
    error, where = 0.0, (probability * bins).long().clamp(max=bins - 1)
    for index in range(bins):
        inside = where == index
        if inside.any():
            gap = (probability[inside].mean() - outcome[inside].float().mean()).abs()
            error += float(gap) * int(inside.sum()) / len(probability)
    return error


class RewardModel:
    """A linear score over standardised features, the heads that doubt it, and the criteria it is the sum of."""

    def __init__(
        self,
        trunk: Trunk,
        standard: Standard,
        weights: Tensor,
        heads: Tensor,
        scale: float,
        calibration: Calibration = UNTOUCHED,
        criteria: Mapping[str, Tensor] | None = None,
    ) -> None:
        """``weights`` (width,), ``heads`` (heads, width); scores are divided by ``scale``. ``criteria``: the heads
        (width,) that ``weights`` is the weighted sum of, where there is more than overall's.
        """
        self.trunk, self.standard = trunk, standard
        self.weights, self.heads, self.scale, self.calibration = weights, heads, scale, calibration
        self.criteria = dict(criteria or {})

    def preferred(self, difference: Tensor) -> Tensor:
        """Differences of two replies' scores (n,) to the probability that a vote, no tie, prefers the first."""
        return self.calibration.probability(difference * self.scale)

    def about(self, reasons: Sequence[str]) -> tuple[str, ...]:
        """Whose heads tell a vote with these reasons: of the criteria it names, else overall's. Empty: the sum is all
        there is.
        """
        return heads_of(reasons, self.criteria) or ((OVERALL,) if self.criteria else ())

    def judging(self, names: Sequence[str]) -> RewardModel:
        """The same model, scoring by the mean of these heads alone."""
        if not names:
            return self
        weights = torch.stack([self.criteria[name] for name in names]).mean(0)
        return RewardModel(self.trunk, self.standard, weights, self.heads, self.scale, self.calibration)

    def score_seen(self, seen: Sequence[Seen]) -> RewardScores:
        """Scores of conversations the base has looked at."""
        features = self.standard.apply(raw_features(self.trunk, seen))
        return RewardScores(
            features @ self.weights / self.scale, (features @ self.heads.T).std(1) / self.scale
        )

    def score(self, conversations: Sequence[tuple[Sequence[Message], str]]) -> RewardScores:
        """Scores of (prompt, reply) texts."""
        return self.score_seen(look(self.trunk, [self.trunk.tokens(m, reply) for m, reply in conversations]))

    def opinions(self, conversations: Sequence[tuple[Sequence[Message], str]]) -> Tensor:
        """(n, heads): what each head makes of (prompt, reply) texts, as logits: the difference of two replies to a
        prompt is the log-odds that the head prefers the first.
        """
        seen = look(self.trunk, [self.trunk.tokens(m, reply) for m, reply in conversations])
        return self.standard.apply(raw_features(self.trunk, seen)) @ self.heads.T

    def save(self, folder: Path) -> None:
        """``reward.safetensors``; scores are the same after ``load``."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            "weights": self.weights,
            "heads": self.heads,
            "center": self.standard.center,
            "spread": self.standard.spread,
            "length": self.standard.length,
            "scale": torch.tensor(self.scale, dtype=torch.float64),
            "temperature": torch.tensor(self.calibration.temperature, dtype=torch.float64),
            "lapse": torch.tensor(self.calibration.lapse, dtype=torch.float64),
            **{CRITERION + name: head for name, head in self.criteria.items()},
        }
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / FILE)

    @classmethod
    def load(cls, trunk: Trunk, folder: Path) -> RewardModel:
        """Read what ``save`` wrote."""
        # copies: in the mapped file a tensor may begin anywhere, and sums then round otherwise
        told = {name: tensor.clone() for name, tensor in load_file(folder / FILE).items()}
        standard = Standard(told["center"], told["spread"], told["length"])
        calibration = Calibration(float(told.get("temperature", 1.0)), float(told.get("lapse", 0.0)))
        criteria = {
            name.removeprefix(CRITERION): head for name, head in told.items() if name.startswith(CRITERION)
        }
        return cls(
            trunk, standard, told["weights"], told["heads"], float(told["scale"]), calibration, criteria
        )


def pessimistic(model: RewardModel, pessimism: float) -> Reward:
    """Mean − λ·std of the reward model's heads."""

    def reward(seen: Sequence[Seen]) -> Tensor:
        scores = model.score_seen(seen)
        return scores.mean - pessimism * scores.std

    return reward


def fit(
    trunk: Trunk, examples: Examples, config: RewardConfig, *, out: Path, progress: Progress | None = None
) -> tuple[RewardModel, RewardReport]:
    """Fit on the ``train`` split, measure on ``holdout``, save into ``out``.

    Raises ValueError when there is no vote in the training split.
    """
    say = progress or (lambda *_: None)
    say("reward model", 0.0, {})
    split = examples.of("train"), examples.of("holdout")
    raw = [_raw(trunk, part) for part in split]
    if not len(raw[0]):
        raise ValueError("there is no vote to learn from")
    raw[1] = raw[1] if len(raw[1]) else raw[0][:0]  # nothing is held out of a handful of votes
    standard = Standard.of(raw[0])
    subjects = {
        name: index for index, name in enumerate(sorted({thumb.subject for thumb in examples.thumbs}))
    }
    told = [standard.apply(part) for part in raw]
    names = named(split[0], config.criterion_votes)
    learnt, asked = parts(split[0], names), parts(split[1], names, held=False)
    train, test = _votes(split[0], told[0], subjects, learnt), _votes(split[1], told[1], subjects, asked)
    say("reward model", 0.5, {})
    generator = torch.Generator().manual_seed(config.seed)

    def shortened(weights: Tensor) -> Tensor:
        return less_length(weights, told[0], config.length)

    calibration, folded = _left_out(train, config, generator, shortened)
    heads = fit_heads(train, config, shortened)
    doubts = _doubts(train, config, generator, shortened)
    weights = summed(heads, learnt)
    criteria = {name: head.weights for name, head in heads.items()} if names else {}
    model = RewardModel(trunk, standard, weights, doubts, _scale(weights, train), calibration, criteria)
    report = _report(examples, heads, calibration, train, test if len(test) else train, folded)
    if ranks.is_first():
        model.save(out)
        (out / "report.json").write_bytes(orjson.dumps(asdict(report)))
    say("reward model", 1.0, {"accuracy": report.accuracy, "nll": report.nll})
    return model, report


def _raw(trunk: Trunk, examples: Examples) -> Tensor:
    """Raw features: a and b of every pair, then the thumbs."""
    texts = [(pair.messages, text) for pair in examples.pairs for text in (pair.a, pair.b)]
    texts += [(thumb.messages, thumb.text) for thumb in examples.thumbs]
    seen = look(trunk, [trunk.tokens(messages, text) for messages, text in texts])
    return raw_features(trunk, seen) if seen else torch.zeros((0, 0))


def _votes(examples: Examples, features: Tensor, subjects: dict[str, int], told: Mapping[str, Part]) -> Votes:
    """Lay the votes out as tensors."""
    pairs, thumbs = examples.pairs, examples.thumbs
    a, b, rest = features[: 2 * len(pairs) : 2], features[1 : 2 * len(pairs) : 2], features[2 * len(pairs) :]
    bad = [index for index, pair in enumerate(pairs) if pair.outcome == "both_bad"]
    nobody = len(subjects)  # both-bad replies have no thumb of their own
    return Votes(
        difference=a - b,
        outcome=torch.tensor([1.0 if pair.outcome == "win" else 0.5 for pair in pairs]),
        pair_weight=torch.tensor([pair.weight for pair in pairs]),
        features=torch.cat([rest, a[bad], b[bad]]),
        up=torch.tensor([float(thumb.up) for thumb in thumbs] + [0.0] * 2 * len(bad)),
        subject=torch.tensor([subjects[thumb.subject] for thumb in thumbs] + [nobody] * 2 * len(bad)).long(),
        thumb_weight=torch.tensor([t.weight for t in thumbs] + [pairs[i].weight / 2 for i in bad * 2]),
        subjects=nobody + 1,
        bad=torch.tensor(bad).long(),
        parts=told,
    )


def _doubts(votes: Votes, config: RewardConfig, generator: torch.Generator, shortened: Shortened) -> Tensor:
    """Weights of the resampled sums (heads, width)."""
    made = []
    for _ in range(config.heads):
        counts = torch.bincount(
            torch.randint(len(votes), (len(votes),), generator=generator), minlength=len(votes)
        ).float()
        drawn = votes.weighted(*counts.split([len(votes.outcome), len(votes.up)]))
        made.append(summed(fit_heads(drawn, config, shortened, generator), votes.parts))
    return torch.stack(made)


def _left_out(
    votes: Votes, config: RewardConfig, generator: torch.Generator, shortened: Shortened
) -> tuple[Calibration, dict[str, float]]:
    """The calibration that is likeliest after votes left out; and how many of them their heads tell, a share by weight:
    for each head, and under ``ALL`` for all votes.
    """
    fold_of = torch.randint(config.folds, (len(votes),), generator=generator)
    nll = torch.tensor([one.surprise(config.temperature_spread, config.lapse_mean) for one in GRID])
    right, told = (dict.fromkeys((ALL, *votes.parts), 0.0) for _ in range(2))
    for fold in range(config.folds):
        inside, outside = (
            votes.weighted(*kept.float().split([len(votes.outcome), len(votes.up)]))
            for kept in (fold_of != fold, fold_of == fold)
        )
        for name, head in fit_heads(inside, config, shortened).items():
            left = outside.of(name)
            for index, calibration in enumerate(GRID):
                pairs, thumbs = vote_nll(head, left, calibration)
                nll[index] += (pairs * left.pair_weight).sum() + (thumbs * left.thumb_weight).sum()
            probability, outcome, weight = _probabilities(head, left, UNTOUCHED)
            for whose in (ALL, name):
                right[whose] += float((((probability > 0.5) == (outcome > 0.5)) * weight).sum())
                told[whose] += float(weight.sum())
    return GRID[int(nll.argmin())], {whose: right[whose] / n if n else 0.5 for whose, n in told.items()}


def _probabilities(head: Head, votes: Votes, calibration: Calibration) -> tuple[Tensor, Tensor, Tensor]:
    """Of every vote but ties: the probability of a or up, what was said, and its weight."""
    decided = votes.outcome != 0.5
    d = (votes.difference @ head.weights)[decided]
    scores = votes.features @ head.weights
    logits = torch.cat([d, scores - head.threshold - head.offsets[votes.subject]])
    # a is the winner of every decided pair: turn half of them round, or all outcomes would be 1
    sign = torch.ones(len(logits))
    sign[: len(d) : 2] = -1.0
    outcome = torch.cat([votes.outcome[decided], votes.up])
    weight = torch.cat([votes.pair_weight[decided], votes.thumb_weight])
    return calibration.probability(logits * sign), torch.where(sign > 0, outcome, 1 - outcome), weight


def _scale(weights: Tensor, votes: Votes) -> float:
    """So that one unit is the deviation of a reply's score."""
    scores = torch.cat([votes.features @ weights, votes.difference @ weights / math.sqrt(2)])
    return float(scores.square().mean().sqrt()) or 1.0


def _report(
    examples: Examples,
    heads: Mapping[str, Head],
    calibration: Calibration,
    train: Votes,
    test: Votes,
    folded: Mapping[str, float],
) -> RewardReport:
    nll = torch.cat(
        [one for name, head in heads.items() for one in vote_nll(head, test.of(name), calibration)]
    )
    probability, outcome = _told(heads, test, calibration)
    return RewardReport(
        pairs=len(examples.pairs),
        thumbs=len(examples.thumbs),
        holdout=len(test) if test is not train else 0,
        accuracy=_accuracy(probability, outcome),
        nll=float(nll.mean()),
        train_accuracy=_accuracy(*_told(heads, train, calibration)),
        calibration_error=expected_calibration_error(probability, outcome),
        temperature=calibration.temperature,
        lapse=calibration.lapse,
        tie_log_odds=float(heads[OVERALL].log_tie),
        fold_accuracy=folded[ALL],
        criteria={
            name: CriterionReport(part.weight, train.of(name).weight, folded[name])
            for name, part in train.parts.items()
        },
    )


def _told(heads: Mapping[str, Head], votes: Votes, calibration: Calibration) -> tuple[Tensor, Tensor]:
    """As ``_probabilities``, each vote by the heads it speaks for."""
    told = [_probabilities(head, votes.of(name), calibration) for name, head in heads.items()]
    return torch.cat([one[0] for one in told]), torch.cat([one[1] for one in told])


def _accuracy(probability: Tensor, outcome: Tensor) -> float:
    return float(((probability > 0.5) == (outcome > 0.5)).float().mean()) if len(outcome) else 0.5
