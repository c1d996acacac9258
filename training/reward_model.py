"""The reward model: pairs, ties and thumbs to a score of any reply, with its own uncertainty.

Votes are few and noisy at the start of a loop, so the model is small and convex: a linear score over the
frozen base's states, averaged over the reply and over every layer (``reference.look``). Averaging over the
reply beat the last token by 5 to 10 points of held-out accuracy here, and a strong pull to zero beat a weak
one (docs/adr/0005). Several heads, each fitted on a resample of the subjects, give mean and deviation.

    pairs   Davidson (1970): P(a≻b) ∝ e^(d/2), P(tie) ∝ ν, P(b≻a) ∝ e^(−d/2), with d = s_a − s_b
    thumbs  logistic: P(up) = σ(s − b), b one threshold for all subjects
    both bad  a tie, and each of the two a thumb down
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from safetensors.torch import load_file, save_file
from torch import Tensor

from feedback.events import Message
from training.examples import Examples
from training.reference import Seen, Tokens, look
from training.trunk import Trunk

Progress = Callable[[str, float, dict[str, float]], None]


@dataclass(frozen=True)
class RewardConfig:
    """Settings of the fit."""

    heads: int = 5
    strengths: tuple[float, ...] = (100.0, 300.0, 1000.0, 3000.0)
    """Candidate pulls of the weights to zero (L2, in units of votes); held-out votes choose."""
    iterations: int = 60
    """Most steps of L-BFGS a head; the problem is convex."""
    folds: int = 4
    """Folds of the cross-validation that chooses the strength."""
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
    strength: float
    tie_log_odds: float


@dataclass(frozen=True)
class RewardScores:
    """Scores of replies, standardised: 0 and 1 are mean and deviation over the replies it was fitted on."""

    mean: Tensor
    std: Tensor  # disagreement of the heads


@dataclass
class Votes:
    """The votes as tensors. Pairs: ``difference`` (p, width) and outcome in {1, 0.5 tie, 0}."""

    difference: Tensor
    outcome: Tensor
    pair_weight: Tensor
    features: Tensor  # (t, width), of thumbs and of both-bad replies
    up: Tensor
    thumb_weight: Tensor

    def rows(self, pairs: Tensor, thumbs: Tensor) -> Votes:
        """A subset or resample by index."""
        return Votes(
            self.difference[pairs], self.outcome[pairs], self.pair_weight[pairs],
            self.features[thumbs], self.up[thumbs], self.thumb_weight[thumbs],
        )  # fmt: skip


def davidson_nll(d: Tensor, outcome: Tensor, log_tie: Tensor) -> Tensor:
    """Negative log-likelihood of outcomes 1 (a), 0 (b) and 0.5 (tie). All (n,); nats."""
    logits = torch.stack([d / 2, -d / 2, log_tie.expand_as(d)], -1)
    target = torch.where(outcome == 1, 0, torch.where(outcome == 0, 1, 2))
    return F.cross_entropy(logits, target, reduction="none")


def loss(weights: Tensor, threshold: Tensor, log_tie: Tensor, votes: Votes, strength: float) -> Tensor:
    """Penalised negative log-likelihood a vote, nats."""
    pairs = davidson_nll(votes.difference @ weights, votes.outcome, log_tie) * votes.pair_weight
    thumbs = F.binary_cross_entropy_with_logits(
        votes.features @ weights - threshold, votes.up, reduction="none"
    )
    total = votes.pair_weight.sum() + votes.thumb_weight.sum() + 1e-9
    penalty = strength * weights.square().sum() + (log_tie + 1.0).square() + 0.1 * threshold.square()
    return (pairs.sum() + (thumbs * votes.thumb_weight).sum() + penalty / 2) / total


def fit_head(votes: Votes, strength: float, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (width,), the threshold of thumbs, and the log of Davidson's ν."""
    weights = torch.zeros(votes.difference.shape[1], requires_grad=True)
    threshold = torch.zeros((), requires_grad=True)
    log_tie = torch.full((), -1.0, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights, threshold, log_tie], max_iter=iterations, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(weights, threshold, log_tie, votes, strength)
        value.backward()
        return value

    optimizer.step(closure)
    return weights.detach(), threshold.detach(), log_tie.detach()


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
    """Heads over the frozen base's features."""

    def __init__(
        self, trunk: Trunk, heads: Tensor, center: Tensor, spread: Tensor, shift: float, scale: float
    ) -> None:
        self.trunk, self.heads, self.center, self.spread = trunk, heads, center, spread
        self.shift, self.scale = shift, scale

    def score_seen(self, seen: Sequence[Seen]) -> RewardScores:
        """Scores of conversations the base has looked at."""
        features = (torch.stack([one.features for one in seen]) - self.center) / self.spread
        raw = (features @ self.heads.T - self.shift) / self.scale
        return RewardScores(raw.mean(1), raw.std(1) if raw.shape[1] > 1 else torch.zeros(len(raw)))

    def score(self, conversations: Sequence[tuple[Sequence[Message], str]]) -> RewardScores:
        """Scores of (prompt, reply) texts."""
        return self.score_seen(
            look(self.trunk, [tokens_of(self.trunk, m, reply) for m, reply in conversations])
        )

    def save(self, folder: Path) -> None:
        """``reward.safetensors``; scores are the same after ``load``."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"heads": self.heads, "center": self.center, "spread": self.spread}
        tensors["standard"] = torch.tensor([self.shift, self.scale])
        save_file(
            {name: value.contiguous() for name, value in tensors.items()}, folder / "reward.safetensors"
        )

    @classmethod
    def load(cls, trunk: Trunk, folder: Path) -> RewardModel:
        """Read what ``save`` wrote."""
        t = load_file(folder / "reward.safetensors")
        return cls(
            trunk, t["heads"], t["center"], t["spread"], float(t["standard"][0]), float(t["standard"][1])
        )


def tokens_of(trunk: Trunk, messages: Sequence[Message], reply: str) -> Tokens:
    """A conversation as tokens, the reply's end included."""
    return Tokens(tuple(trunk.prompt_ids(messages)), tuple(trunk.reply_ids(reply)))


def _votes(
    trunk: Trunk, examples: Examples, center: Tensor | None, spread: Tensor | None
) -> tuple[Votes, Tensor, Tensor]:
    """Look at every reply once and lay the votes out as tensors; standardises the features."""
    texts = [(p.messages, t) for p in examples.pairs for t in (p.a, p.b)] + [
        (t.messages, t.text) for t in examples.thumbs
    ]
    seen = look(trunk, [tokens_of(trunk, messages, text) for messages, text in texts])
    width = trunk.model.config.hidden_size * (trunk.model.config.num_hidden_layers + 1) + 1
    features = torch.stack([one.features for one in seen]) if seen else torch.zeros((0, width))
    if center is None or spread is None:
        center, spread = features.mean(0), features.std(0) + 1e-6
    features = (features - center) / spread
    pairs, thumbs = examples.pairs, examples.thumbs
    a, b, rest = features[: 2 * len(pairs) : 2], features[1 : 2 * len(pairs) : 2], features[2 * len(pairs) :]
    bad = [index for index, pair in enumerate(pairs) if pair.outcome == "both_bad"]
    votes = Votes(
        difference=a - b,
        outcome=torch.tensor([1.0 if pair.outcome == "win" else 0.5 for pair in pairs]),
        pair_weight=torch.tensor([pair.weight for pair in pairs]),
        features=torch.cat([rest, a[bad], b[bad]]),
        up=torch.tensor([float(thumb.up) for thumb in thumbs] + [0.0] * 2 * len(bad)),
        thumb_weight=torch.tensor([t.weight for t in thumbs] + [pairs[i].weight / 2 for i in bad * 2]),
    )
    return votes, center, spread


def _held_out(heads: list[tuple[Tensor, Tensor, Tensor]], votes: Votes) -> tuple[Tensor, Tensor, Tensor]:
    """Per vote: nll, probability of the positive side, outcome; ties last and only in the nll."""
    weights = torch.stack([head[0] for head in heads]).mean(0)
    threshold, log_tie = torch.stack([h[1] for h in heads]).mean(), torch.stack([h[2] for h in heads]).mean()
    d, s = votes.difference @ weights, votes.features @ weights - threshold
    nll = torch.cat(
        [
            davidson_nll(d, votes.outcome, log_tie),
            F.binary_cross_entropy_with_logits(s, votes.up, reduction="none"),
        ]
    )
    decided = votes.outcome != 0.5
    probability = torch.cat([torch.sigmoid(d[decided]), torch.sigmoid(s)])
    return nll, probability, torch.cat([votes.outcome[decided], votes.up])


def _choose_strength(votes: Votes, config: RewardConfig, generator: torch.Generator) -> float:
    """By the cross-validated likelihood."""
    p = torch.randint(config.folds, (len(votes.outcome),), generator=generator)
    t = torch.randint(config.folds, (len(votes.up),), generator=generator)
    best, chosen = math.inf, config.strengths[-1]
    for strength in config.strengths:
        total = 0.0
        for fold in range(config.folds):
            train = votes.rows((p != fold).nonzero()[:, 0], (t != fold).nonzero()[:, 0])
            test = votes.rows((p == fold).nonzero()[:, 0], (t == fold).nonzero()[:, 0])
            total += float(_held_out([fit_head(train, strength, config.iterations)], test)[0].sum())
        if total < best:
            best, chosen = total, strength
    return chosen


def fit(
    trunk: Trunk, examples: Examples, config: RewardConfig, *, out: Path, progress: Progress | None = None
) -> tuple[RewardModel, RewardReport]:
    """Fit on the ``train`` split, measure on ``holdout``, save into ``out``."""
    say = progress or (lambda *_: None)
    say("reward model", 0.0, {})
    train, center, spread = _votes(trunk, examples.of("train"), None, None)
    test, _, _ = _votes(trunk, examples.of("holdout"), center, spread)
    generator = torch.Generator().manual_seed(config.seed)
    strength = _choose_strength(train, config, generator)
    say("reward model", 0.5, {})
    heads = []
    for _ in range(config.heads):
        pairs = torch.randint(max(1, len(train.outcome)), (len(train.outcome),), generator=generator)
        thumbs = torch.randint(max(1, len(train.up)), (len(train.up),), generator=generator)
        heads.append(fit_head(train.rows(pairs, thumbs), strength, config.iterations))
    weights = torch.stack([head[0] for head in heads])
    model = _standardised(trunk, weights, center, spread, train)
    nll, probability, outcome = _held_out(heads, test if len(test.outcome) + len(test.up) else train)
    _, train_probability, train_outcome = _held_out(heads, train)
    report = RewardReport(
        pairs=len(examples.pairs),
        thumbs=len(examples.thumbs),
        holdout=len(test.outcome) + len(test.up),
        accuracy=_accuracy(probability, outcome),
        nll=float(nll.mean()),
        train_accuracy=_accuracy(train_probability, train_outcome),
        calibration_error=expected_calibration_error(probability, outcome),
        strength=strength,
        tie_log_odds=float(torch.stack([head[2] for head in heads]).mean()),
    )
    model.save(out)
    (out / "report.json").write_bytes(orjson.dumps(asdict(report)))
    say("reward model", 1.0, {"accuracy": report.accuracy, "nll": report.nll})
    return model, report


def _accuracy(probability: Tensor, outcome: Tensor) -> float:
    return float(((probability > 0.5) == (outcome > 0.5)).float().mean()) if len(outcome) else 0.5


def _standardised(trunk: Trunk, weights: Tensor, center: Tensor, spread: Tensor, train: Votes) -> RewardModel:
    """Scale so that the spread of differences in training is √2: one unit is one reply's deviation."""
    mean = weights.mean(0)
    scores = torch.cat([train.features @ mean, train.difference @ mean / math.sqrt(2)])
    scale = float(scores.square().mean().sqrt()) or 1.0
    return RewardModel(trunk, weights, center, spread, 0.0, scale)
