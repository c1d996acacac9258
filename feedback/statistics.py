"""What an experiment's counts say: who is best, whether the split is sound, and what to do now.

Pure. Everything here may be looked at after every vote. A figure that says nothing yet says so: the verdict
is ``wait`` with the reason, and evidence of 1 speaks for neither side.

Sources besides those of ``intervals.py``
    Lindon, Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022 (arXiv 2011.03567): the
        sample ratio test.
    Russo, "Simple Bayesian algorithms for best-arm identification", Operations Research 68(6), 2020: top-two
        sampling; with a floor of traffic for every arm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.special import gammaln
from scipy.stats import beta, norm

from feedback.intervals import (
    Sample,
    design_effect,
    difference_interval,
    mean_sample,
    rate_interval,
    rate_sample,
    subjects_of,
)
from feedback.protocols import ArmCounts

__all__ = [
    "Limits",
    "Verdict",
    "bandit_shares",
    "decide",
    "expected_loss",
    "probability_best",
    "rate_interval",
    "srm_evidence",
    "up_rate",
    "win_rate",
]
_CONCENTRATION = 100.0  # of the prior around the intended shares: tuned to shares that are off by some points


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate with its always-valid interval; None before the first observation."""

    value: float | None
    lower: float
    upper: float
    n: float  # observations; ``effective``: as many as independent subjects would give
    effective: float


def up_rate(counts: ArmCounts, alpha: float = 0.05) -> Rate:
    """Share of thumbs up, with votes of one subject counting less than as many subjects would."""
    n, effect = counts.up + counts.down, _votes_effect(counts)
    return _rate(counts.up, n, effect, alpha)


def win_rate(counts: ArmCounts, alpha: float = 0.05) -> Rate:
    """Share of comparisons with other arms won, ties half."""
    return _rate(counts.wins, counts.compared, _pairs_effect(counts), alpha)


def _rate(won: float, n: float, effect: float, alpha: float) -> Rate:
    won = min(max(won, 0.0), n)
    lower, upper = rate_interval(won / effect, n / effect, alpha)
    return Rate(won / n if n else None, lower, upper, n, n / effect)


def _votes_effect(c: ArmCounts) -> float:
    return design_effect(c.up + c.down, c.up, c.votes_squared, c.up_squared, c.up_votes)


def _pairs_effect(c: ArmCounts) -> float:
    return design_effect(c.compared, c.wins, c.compared_squared, c.wins_squared, c.wins_compared)


def _posteriors(counts: Mapping[str, ArmCounts]) -> list[tuple[float, float]]:
    """Per arm the Beta posterior of its up-rate from a uniform prior, votes scaled by their design effect."""
    effects = [(arm, _votes_effect(arm)) for arm in counts.values()]
    return [(1 + arm.up / effect, 1 + arm.down / effect) for arm, effect in effects]


def probability_best(counts: Mapping[str, ArmCounts], nodes: int = 512) -> dict[str, float]:
    """Per arm the posterior probability that its up-rate is the highest: ∫ Π_j F_j(Q_i(u)) du."""
    shapes = _posteriors(counts)
    x, weights = np.polynomial.legendre.leggauss(nodes)
    u, weights = (x + 1) / 2, weights / 2
    best = []
    for i, own in enumerate(shapes):
        at = beta.ppf(u, *own)
        others = [beta.cdf(at, *shape) for j, shape in enumerate(shapes) if j != i]
        best.append(float(np.sum(weights * np.prod(others, axis=0))) if others else 1.0)
    whole = sum(best)
    return {arm: value / whole for arm, value in zip(counts, best, strict=True)}


def expected_loss(counts: Mapping[str, ArmCounts], points: int = 800) -> dict[str, float]:
    """Per arm how much up-rate choosing it is expected to cost: E[max_j θ_j] − E[θ_i]."""
    shapes = _posteriors(counts)
    u = norm.cdf(np.linspace(-8, 8, points))  # close together also in the tails
    grid = np.unique(np.concatenate([[0.0, 1.0], *(beta.ppf(u, *shape) for shape in shapes)]))
    below = np.prod([beta.cdf(grid, *shape) for shape in shapes], axis=0)
    highest = float(np.trapezoid(1 - below, grid))
    means = [a / (a + b) for a, b in shapes]
    return {arm: max(0.0, highest - mean) for arm, mean in zip(counts, means, strict=True)}


def bandit_shares(counts: Mapping[str, ArmCounts], floor: float = 0.01) -> dict[str, float]:
    """Top-two Thompson shares: half to the best arm, half to its best rival, ``floor`` to each."""
    best = probability_best(counts)
    if len(best) < 2:
        return best
    raw = dict.fromkeys(best, 0.0)
    for leader, p in best.items():
        rivals = {arm: q for arm, q in best.items() if arm != leader}
        whole = sum(rivals.values())
        raw[leader] += 0.5 * p
        for arm, q in rivals.items():
            raw[arm] += 0.5 * p * (q / whole if whole > 0 else 1 / len(rivals))
    free = 1 - floor * len(raw)
    return {arm: floor + free * share for arm, share in raw.items()}


def srm_evidence(counts: Mapping[str, ArmCounts]) -> float:
    """How many times likelier the arms' subjects are under shares other than those set; 1 says nothing.

    Bayes factor of a Dirichlet-multinomial against the multinomial of the set shares (Lindon & Malek), over
    subjects at their first response, one factor for each phase of the ramp: so a ramp raises no alarm, and
    by Ville's inequality a sound split ever reaches 1/alpha with probability at most alpha.
    """
    phases: dict[str, list[tuple[float, int]]] = {}
    for arm in counts.values():
        for phase, share, subjects in arm.entered:
            phases.setdefault(phase, []).append((share, subjects))
    return math.exp(min(700.0, sum(_log_factor(arms) for arms in phases.values())))


def _log_factor(arms: list[tuple[float, int]]) -> float:
    """Of one phase; shares are taken among the arms given, which may be a part of the experiment's."""
    if any(share == 0 and subjects for share, subjects in arms):
        return math.inf
    whole = sum(share for share, _ in arms)
    open_arms = [(share / whole, subjects) for share, subjects in arms if share > 0]
    if not open_arms:
        return 0.0
    prior = np.array([_CONCENTRATION * share for share, _ in open_arms])
    seen = np.array([subjects for _, subjects in open_arms], dtype=float)
    expected = np.log(np.array([share for share, _ in open_arms]))
    mixed = (
        gammaln(prior.sum())
        - gammaln(prior.sum() + seen.sum())
        + np.sum(gammaln(prior + seen) - gammaln(prior))
    )
    return float(mixed - np.sum(seen * expected))


@dataclass(frozen=True, slots=True)
class Limits:
    """How sure to be, and how much worse anything but the votes may get."""

    alpha: float = 0.05  # chance that a candidate no better is ever promoted
    min_votes: int = 20  # votes (or comparisons) an arm, net of their design effect, before they are judged
    min_subjects: float = 5.0  # subjects an arm that gave them, those with few votes counting for less
    indifferent: float = 0.02  # a difference in up-rate that does not matter
    enough_votes: int = 5000  # votes on the candidate after which an undecided experiment ends
    guard_alpha: float = 0.01  # chance of each guardrail's false alarm, ever
    min_exposures: int = 50  # responses an arm before guardrails are judged
    slower: float = 0.5  # mean duration may be this much longer than the control's
    longer: float = 0.5  # mean reply, in tokens, may be this much longer
    srm_alpha: float = 0.001  # chance that a sound split is ever called broken


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, why in words, and the figures behind it. ``wait`` is always inconclusive."""

    action: Literal["wait", "promote", "roll_back", "stop"]
    reason: str
    figures: Mapping[str, float] = field(default_factory=dict)


def decide(control: ArmCounts, candidate: ArmCounts, limits: Limits | None = None) -> Verdict:
    """The verdict on a candidate against what is served.

    Order: a broken split ends it, since then nothing else can be believed; a broken guardrail or worse votes
    roll it back; better votes or comparisons promote it (half of alpha each, so asking both stays honest);
    no difference that matters, or too many votes without one, ends it. Else wait.
    """
    limits = limits or Limits()
    evidence = srm_evidence({"control": control, "candidate": candidate})
    if evidence > 1 / limits.srm_alpha:
        reason = f"the split is broken: other shares than those set are {evidence:.0f} times likelier"
        return Verdict("stop", reason, {"srm_evidence": evidence})
    broken = _guardrail(control, candidate, limits)
    if broken is not None:
        return broken
    votes, pairs = _votes_difference(control, candidate, limits), _win_excess(candidate, limits)
    figures = {"srm_evidence": evidence, **_named("difference", votes), **_named("win_excess", pairs)}
    said = [("up-rate", votes)] if votes else []
    said += [("win rate", pairs)] if pairs else []
    for name, (_, upper) in said:
        if upper < 0:
            return Verdict("roll_back", f"{name} worse by at least {-upper:.1%}", figures)
    for name, (lower, _) in said:
        if lower > 0:
            return Verdict("promote", f"{name} better by at least {lower:.1%}", figures)
    return _undecided(control, candidate, votes, limits, figures=figures)


def _undecided(
    control: ArmCounts,
    candidate: ArmCounts,
    votes: tuple[float, float] | None,
    limits: Limits,
    *,
    figures: dict[str, float],
) -> Verdict:
    cast = candidate.up + candidate.down
    if votes is None:
        return Verdict(
            "wait",
            f"inconclusive: too few votes on an arm, of {control.up + control.down} and {cast}",
            figures,
        )
    lower, upper = votes
    if max(-lower, upper) < limits.indifferent:
        reason = f"no difference that matters: up-rate within {limits.indifferent:.0%}"
        return Verdict("stop", reason, figures)
    if cast >= limits.enough_votes:
        return Verdict("stop", f"inconclusive after {cast} votes: {lower:+.1%} to {upper:+.1%}", figures)
    return Verdict("wait", f"inconclusive: up-rate differs by {lower:+.1%} to {upper:+.1%}", figures)


def _votes_difference(control: ArmCounts, candidate: ArmCounts, limits: Limits) -> tuple[float, float] | None:
    samples: list[Sample] = []
    for arm in (control, candidate):
        n, effect = arm.up + arm.down, _votes_effect(arm)
        few = subjects_of(n, arm.votes_squared) < limits.min_subjects
        if few or n / effect < limits.min_votes:
            return None
        samples.append(rate_sample(n, arm.up, effect))
    return difference_interval(samples[0], samples[1], limits.alpha / 2)


def _win_excess(candidate: ArmCounts, limits: Limits) -> tuple[float, float] | None:
    """Of the candidate's win rate over ½, exact for pairs of as many subjects."""
    rate = win_rate(candidate, limits.alpha / 2)
    few = subjects_of(candidate.compared, candidate.compared_squared) < limits.min_subjects
    if few or rate.effective < limits.min_votes:
        return None
    return rate.lower - 0.5, rate.upper - 0.5


def _guardrail(control: ArmCounts, candidate: ArmCounts, limits: Limits) -> Verdict | None:
    if min(control.exposures, candidate.exposures) < limits.min_exposures:
        return None
    alpha = limits.guard_alpha
    usual, now = (rate_interval(arm.errors, arm.exposures, alpha / 2) for arm in (control, candidate))
    if now[0] > usual[1]:
        reason = f"guardrail: errors at least {now[0]:.1%}, the control's at most {usual[1]:.1%}"
        return Verdict("roll_back", reason, {"errors_lower": now[0], "errors_control_upper": usual[1]})
    for name, margin in (("duration_seconds", limits.slower), ("completion_tokens", limits.longer)):
        squares = "duration_squared" if name == "duration_seconds" else "tokens_squared"
        if not getattr(control, squares) or not getattr(candidate, squares):
            continue
        first, second = (
            mean_sample(arm.exposures, getattr(arm, name), getattr(arm, squares))
            for arm in (control, candidate)
        )
        lower, _ = difference_interval(first, second, alpha, factor=1 + margin)
        if lower > 0:
            reason = f"guardrail: mean {name} {second.mean:.3g}, more than {margin:.0%} over {first.mean:.3g}"
            return Verdict("roll_back", reason, {name: second.mean, f"{name}_control": first.mean})
    return None


def _named(name: str, interval: tuple[float, float] | None) -> dict[str, float]:
    return {} if interval is None else {f"{name}_lower": interval[0], f"{name}_upper": interval[1]}
