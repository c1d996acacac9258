"""The reward model: pairs, ties and thumbs to a score of any reply, with its own uncertainty.

Votes are few and noisy at the start of a loop, so the model is small and convex: a linear score over fixed
features (``reward_features``), pulled to zero. It has one optimum, which takes seconds and does not hang on
where the last fit ended, so every fit is a full one. Several further heads, each fitted to a resample of the
votes and pulled to a random point of the prior (Osband et al. 2018), tell how sure it is.

    pairs     Davidson (1970): P(a≻b) ∝ e^(d/2), P(tie) ∝ ν, P(b≻a) ∝ e^(−d/2), with d = s_a − s_b
    thumbs    logistic: P(up) = σ(s − b − b_subject), the subject's own offset pulled to zero
    both bad  a tie, and each of the two half a thumb down
    length    what the scores of the replies voted on owe to their number of words may be taken out (as ODIN does
              with a head of its own; Chen et al. 2024): the weight of that number is moved until they correlate no more
    T         one temperature for all probabilities, from predictions on votes left out (Guo et al. 2017)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeAlias

import orjson
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from safetensors.torch import load_file, save_file
from torch import Tensor

from feedback.events import Message
from training.examples import Examples
from training.reference import Seen, look
from training.reward_features import Standard, less_length, raw_features
from training.trunk import Trunk

Progress: TypeAlias = Callable[[str, float, dict[str, float]], None]

FILE = "reward.safetensors"


@dataclass(frozen=True)
class RewardConfig:
    """Settings of the fit."""

    strength: float = 2.0
    """Pull of the weights to zero (L2), in votes: features have length √2, so this is the prior's precision."""
    offset_strength: float = 4.0
    """Pull of each subject's own thumb offset to zero."""
    heads: int = 5
    """Resampled heads behind the deviation."""
    iterations: int = 60
    """Most steps of L-BFGS a fit; the problem is convex."""
    folds: int = 4
    """Parts of the votes, each left out once, to find the temperature."""
    length: float = 1.0
    """Share that stays of what scores owe to the length of a reply. 1: raters are believed that they like it so;
    0: it is taken out."""
    seed: int = 0


@dataclass(frozen=True)
class RewardReport:
    """What the fit showed on votes it did not learn from."""

    pairs: int
    thumbs: int
    holdout: int
    accuracy: float  # share of held-out votes (ties left out) whose side it tells
    nll: float  # mean negative log-likelihood of held-out votes, nats
    train_accuracy: float
    calibration_error: float  # expected calibration error over ten bins, in [0, 1]
    temperature: float  # above 1: the fit was too sure of itself
    tie_log_odds: float  # log ν
    fold_accuracy: float  # as ``accuracy``, of every training vote by a fit that left its part out


@dataclass(frozen=True)
class RewardScores:
    """Scores of replies, standardised: 0 and 1 are mean and deviation over the replies it was fitted on."""

    mean: Tensor
    std: Tensor  # disagreement of the heads


@dataclass
class Votes:
    """The votes as tensors. Pairs: ``difference`` (p, width) and outcome in {1, 0.5 tie}."""

    difference: Tensor
    outcome: Tensor
    pair_weight: Tensor
    features: Tensor  # (t, width), of thumbs and of both-bad replies
    up: Tensor
    subject: Tensor  # (t,) which subject's offset
    thumb_weight: Tensor
    subjects: int

    def __len__(self) -> int:
        return len(self.outcome) + len(self.up)

    def weighted(self, pairs: Tensor, thumbs: Tensor) -> Votes:
        """The same votes, each counted so many times more."""
        return Votes(
            self.difference, self.outcome, self.pair_weight * pairs,
            self.features, self.up, self.subject, self.thumb_weight * thumbs, self.subjects,
        )  # fmt: skip


@dataclass(frozen=True)
class Head:
    """One fit."""

    weights: Tensor  # (width,)
    threshold: Tensor  # thumbs', ()
    offsets: Tensor  # (subjects,)
    log_tie: Tensor  # log ν, ()

    def parts(self) -> list[Tensor]:
        return [self.weights, self.threshold, self.offsets, self.log_tie]


def davidson_nll(d: Tensor, outcome: Tensor, log_tie: Tensor) -> Tensor:
    """Negative log-likelihood of outcomes 1 (a), 0 (b) and 0.5 (tie). All (n,); nats."""
    logits = torch.stack([d / 2, -d / 2, log_tie.expand_as(d)], -1)
    target = torch.where(outcome == 1, 0, torch.where(outcome == 0, 1, 2))
    return F.cross_entropy(logits, target, reduction="none")


def vote_nll(head: Head, votes: Votes, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of each pair (p,) and each thumb (t,), nats."""
    d = votes.difference @ head.weights / temperature
    scores = votes.features @ head.weights
    logits = (scores - head.threshold - head.offsets[votes.subject]) / temperature
    thumbs = F.binary_cross_entropy_with_logits(logits, votes.up, reduction="none")
    return davidson_nll(d, votes.outcome, head.log_tie), thumbs


def loss(head: Head, votes: Votes, config: RewardConfig, prior: Tensor) -> Tensor:
    """Penalised negative log-likelihood a vote, nats. ``prior`` (width,) is where the weights are pulled to."""
    pairs, thumbs = vote_nll(head, votes)
    penalty = (
        config.strength * (head.weights - prior).square().sum()
        + config.offset_strength * head.offsets.square().sum()
        + (head.log_tie + 1.0).square()
        + 0.1 * head.threshold.square()
    )
    total = (pairs * votes.pair_weight).sum() + (thumbs * votes.thumb_weight).sum() + penalty / 2
    return total / (votes.pair_weight.sum() + votes.thumb_weight.sum() + 1e-9)


def fit_head(votes: Votes, config: RewardConfig, prior: Tensor | None = None) -> Head:
    """The optimum of ``loss`` by L-BFGS."""
    width = votes.difference.shape[1]
    prior = torch.zeros(width) if prior is None else prior
    head = Head(prior.clone(), torch.zeros(()), torch.zeros(votes.subjects), torch.full((), -1.0))
    for part in head.parts():
        part.requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        head.parts(), max_iter=config.iterations, tolerance_change=1e-7, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(head, votes, config, prior)
        value.backward()
        return value

    optimizer.step(closure)
    return Head(*(part.detach() for part in head.parts()))


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
    """A linear score over standardised features, and the heads that doubt it."""

    def __init__(
        self,
        trunk: Trunk,
        standard: Standard,
        weights: Tensor,
        heads: Tensor,
        scale: float,
        temperature: float = 1.0,
    ) -> None:
        """``weights`` (width,), ``heads`` (heads, width); scores are divided by ``scale``."""
        self.trunk, self.standard = trunk, standard
        self.weights, self.heads, self.scale, self.temperature = weights, heads, scale, temperature

    @property
    def certainty(self) -> float:
        """The difference of two replies' scores times this is the log-odds that a vote prefers the first."""
        return self.scale / self.temperature

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
            "temperature": torch.tensor(self.temperature, dtype=torch.float64),
        }
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / FILE)

    @classmethod
    def load(cls, trunk: Trunk, folder: Path) -> RewardModel:
        """Read what ``save`` wrote."""
        # copies: in the mapped file a tensor may begin anywhere, and sums then round otherwise
        told = {name: tensor.clone() for name, tensor in load_file(folder / FILE).items()}
        standard = Standard(told["center"], told["spread"], told["length"])
        temperature = float(told.get("temperature", 1.0))
        return cls(trunk, standard, told["weights"], told["heads"], float(told["scale"]), temperature)


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
    train, test = (_votes(part, features, subjects) for part, features in zip(split, told, strict=True))
    say("reward model", 0.5, {})
    generator = torch.Generator().manual_seed(config.seed)

    def shortened(weights: Tensor) -> Tensor:
        return less_length(weights, told[0], config.length)

    temperature, folded = _left_out(train, config, generator, shortened)
    head = fit_head(train, config)
    head = replace(head, weights=shortened(head.weights))
    doubts = shortened(_doubts(train, config, generator))
    model = RewardModel(trunk, standard, head.weights, doubts, _scale(head, train), temperature)
    report = _report(examples, head, temperature, train, test if len(test) else train, folded)
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


def _votes(examples: Examples, features: Tensor, subjects: dict[str, int]) -> Votes:
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
    )


def _doubts(votes: Votes, config: RewardConfig, generator: torch.Generator) -> Tensor:
    """Weights of the resampled heads (heads, width)."""
    made = []
    for _ in range(config.heads):
        counts = torch.bincount(
            torch.randint(len(votes), (len(votes),), generator=generator), minlength=len(votes)
        ).float()
        prior = torch.randn(votes.difference.shape[1], generator=generator) / math.sqrt(config.strength)
        pairs, thumbs = counts.split([len(votes.outcome), len(votes.up)])
        made.append(fit_head(votes.weighted(pairs, thumbs), config, prior).weights)
    return torch.stack(made)


def _left_out(
    votes: Votes, config: RewardConfig, generator: torch.Generator, shortened: Callable[[Tensor], Tensor]
) -> tuple[float, float]:
    """The temperature that makes left-out votes likeliest, and the accuracy on them, of ``shortened`` weights."""
    part = torch.randint(config.folds, (len(votes),), generator=generator)
    grid = [2 ** (step / 4) for step in range(-8, 9)]
    nll, right, told = torch.zeros(len(grid)), 0.0, 0.0
    for fold in range(config.folds):
        inside, outside = (
            votes.weighted(*kept.float().split([len(votes.outcome), len(votes.up)]))
            for kept in (part != fold, part == fold)
        )
        head = fit_head(inside, config)
        head = replace(head, weights=shortened(head.weights))
        for index, temperature in enumerate(grid):
            pairs, thumbs = vote_nll(head, outside, temperature)
            nll[index] += (pairs * outside.pair_weight).sum() + (thumbs * outside.thumb_weight).sum()
        probability, outcome, weight = _probabilities(head, outside, 1.0)
        right += float((((probability > 0.5) == (outcome > 0.5)) * weight).sum())
        told += float(weight.sum())
    return grid[int(nll.argmin())], right / told if told else 0.5


def _probabilities(head: Head, votes: Votes, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of every vote but ties: the probability of a or up, what was said, and its weight."""
    decided = votes.outcome != 0.5
    d = (votes.difference @ head.weights)[decided]
    scores = votes.features @ head.weights
    logits = torch.cat([d, scores - head.threshold - head.offsets[votes.subject]]) / temperature
    # a is the winner of every decided pair: turn half of them round, or all outcomes would be 1
    sign = torch.ones(len(logits))
    sign[: len(d) : 2] = -1.0
    outcome = torch.cat([votes.outcome[decided], votes.up])
    weight = torch.cat([votes.pair_weight[decided], votes.thumb_weight])
    return torch.sigmoid(logits * sign), torch.where(sign > 0, outcome, 1 - outcome), weight


def _scale(head: Head, votes: Votes) -> float:
    """So that one unit is the deviation of a reply's score."""
    scores = torch.cat([votes.features @ head.weights, votes.difference @ head.weights / math.sqrt(2)])
    return float(scores.square().mean().sqrt()) or 1.0


def _report(
    examples: Examples, head: Head, temperature: float, train: Votes, test: Votes, folded: float
) -> RewardReport:
    pairs, thumbs = vote_nll(head, test, temperature)
    probability, outcome, _ = _probabilities(head, test, temperature)
    seen, said, _ = _probabilities(head, train, temperature)
    return RewardReport(
        pairs=len(examples.pairs),
        thumbs=len(examples.thumbs),
        holdout=len(test) if test is not train else 0,
        accuracy=_accuracy(probability, outcome),
        nll=float(torch.cat([pairs, thumbs]).mean()),
        train_accuracy=_accuracy(seen, said),
        calibration_error=expected_calibration_error(probability, outcome),
        temperature=temperature,
        tie_log_odds=float(head.log_tie),
        fold_accuracy=folded,
    )


def _accuracy(probability: Tensor, outcome: Tensor) -> float:
    return float(((probability > 0.5) == (outcome > 0.5)).float().mean()) if len(outcome) else 0.5
