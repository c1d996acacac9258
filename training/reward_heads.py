"""The fits behind the reward model: votes as tensors, their likelihoods, one head's optimum, and a head a criterion.

pairs     Davidson (1970): P(a≻b) ∝ e^(d/2), P(tie) ∝ ν, P(b≻a) ∝ e^(−d/2), with d = s_a − s_b
thumbs    logistic: P(up) = σ(s − b − b_subject), the subject's own offset pulled to zero
both bad  a tie, and each of the two half a thumb down
lapses    a vote may be turned round whatever was shown (Wichmann & Hill 2001): how often is part of the calibration
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from training.calibration import UNTOUCHED, Calibration
from training.criteria import Part

Shortened: TypeAlias = Callable[[Tensor], Tensor]
"""Takes out of weights (…, width) what they owe to length."""


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
    """Parts of the votes, each left out once, to find the calibration."""
    temperature_spread: float = 0.5
    """Deviation of the temperature's logarithm before any vote is left out; its mean is 0."""
    lapse_mean: float = 0.2
    """Mean of the share of lapses before any vote is left out; the smaller, the likelier (exponential)."""
    length: float = 1.0
    """Share that stays of what scores owe to the length of a reply. 1: raters are believed that they like it so;
    0: it is taken out."""
    criterion_votes: float = 30.0
    """Votes that a criterion needs for a head of its own."""
    seed: int = 0


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
    bad: Tensor = field(default_factory=lambda: torch.zeros(0).long())  # pairs whose replies end ``features``
    parts: Mapping[str, Part] = field(default_factory=dict)  # head → what it is fitted on, overall's first

    def __len__(self) -> int:
        return len(self.outcome) + len(self.up)

    @property
    def weight(self) -> float:
        """Of all of them."""
        return float(self.pair_weight.sum() + self.thumb_weight.sum())

    def weighted(self, pairs: Tensor, thumbs: Tensor) -> Votes:
        """The same votes, each counted so many times more."""
        return Votes(
            self.difference, self.outcome, self.pair_weight * pairs,
            self.features, self.up, self.subject, self.thumb_weight * thumbs, self.subjects, self.bad,
            self.parts,
        )  # fmt: skip

    def of(self, name: str) -> Votes:
        """What of them speaks for a head: shares of weights, without what has none."""
        part = self.parts[name]
        shared = self.weighted(
            part.pairs, torch.cat([part.thumbs, part.pairs[self.bad], part.pairs[self.bad]])
        )
        pairs, thumbs = shared.pair_weight > 0, shared.thumb_weight > 0
        if bool(pairs.all()) and bool(thumbs.all()):
            return shared
        return Votes(
            self.difference[pairs], self.outcome[pairs], shared.pair_weight[pairs],
            self.features[thumbs], self.up[thumbs], self.subject[thumbs], shared.thumb_weight[thumbs],
            self.subjects,
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


def vote_nll(head: Head, votes: Votes, calibration: Calibration = UNTOUCHED) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of each pair (p,) and each thumb (t,), nats."""
    d = votes.difference @ head.weights / calibration.temperature
    scores = votes.features @ head.weights
    logits = (scores - head.threshold - head.offsets[votes.subject]) / calibration.temperature

    def pairs(outcome: Tensor) -> Tensor:
        return davidson_nll(d, outcome, head.log_tie)

    def thumbs(up: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, up, reduction="none")

    return calibration.nll(pairs, votes.outcome), calibration.nll(thumbs, votes.up)


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


def fit_heads(
    votes: Votes, config: RewardConfig, shortened: Shortened, generator: torch.Generator | None = None
) -> dict[str, Head]:
    """A fit of each part, overall's first, to whose weights the others are pulled. A ``generator`` moves each prior
    by a draw of it.
    """
    heads: dict[str, Head] = {}
    width = votes.difference.shape[1]
    for name in votes.parts:
        prior = next(iter(heads.values())).weights if heads else torch.zeros(width)
        if generator is not None:
            prior = prior + torch.randn(width, generator=generator) / math.sqrt(config.strength)
        heads[name] = fit_head(votes.of(name), config, prior)
    return {name: replace(head, weights=shortened(head.weights)) for name, head in heads.items()}


def summed(heads: Mapping[str, Head], parts: Mapping[str, Part]) -> Tensor:
    """(width,) weights of the score: the weighted sum of the heads'."""
    return torch.stack([part.weight * heads[name].weights for name, part in parts.items()]).sum(0)
