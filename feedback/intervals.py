"""Intervals that may be looked at after every vote: confidence sequences, and variances by subject.

Sources
    Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences",
        Annals of Statistics 49(2), 2021: mixtures over a beta prior for bounded observations.
    Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas, "Time-uniform central limit theory and asymptotic confidence
        sequences", Annals of Statistics 52(6), 2024 (10.1214/24-AOS2408): means and their differences.
    Rao, Scott, "A simple method for the analysis of clustered binary data", Biometrics 48, 1992: dividing
        counts by their design effect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.special import betaln

_PRIOR = 0.5  # Beta(½, ½): loses least over all true rates
_CORRELATION, _TRUST = 0.1, 10.0  # of one subject's votes on one arm before any are seen; in subjects


@dataclass(frozen=True, slots=True)
class Sample:
    """A mean, and the variance of that mean."""

    mean: float
    variance: float
    n: float


def rate_interval(successes: float, n: float, alpha: float = 0.05) -> tuple[float, float]:
    """A (1 − alpha) confidence sequence for a rate: it holds at all times at once.

    Beta-binomial mixture (Howard et al. 2021): by Ville's inequality the mixture of likelihood ratios
    ``B(½+s, ½+f) / B(½, ½) / (θ^s (1−θ)^f)`` exceeds 1/alpha at the true θ with probability at most alpha,
    ever. Holds for observations in [0, 1] with mean θ, hence ``successes`` may be fractional (ties half).

    Raises ValueError unless 0 ≤ successes ≤ n and 0 < alpha < 1.
    """
    if not 0 <= successes <= n or not 0 < alpha < 1:
        raise ValueError(f"needs 0 <= successes <= n and 0 < alpha < 1, got {successes}, {n}, {alpha}")
    if n == 0:
        return 0.0, 1.0
    failures = n - successes
    level = betaln(_PRIOR + successes, _PRIOR + failures) - betaln(_PRIOR, _PRIOR) + math.log(alpha)

    def excess(rate: float) -> float:
        likelihood = successes * math.log(rate) if successes else 0.0
        return float(level - likelihood - (failures * math.log1p(-rate) if failures else 0.0))

    middle, tiny = successes / n, 1e-12
    lower = brentq(excess, tiny, middle) if middle > tiny and excess(tiny) > 0 else 0.0
    upper = brentq(excess, middle, 1 - tiny) if middle < 1 - tiny and excess(1 - tiny) > 0 else 1.0
    return float(lower), float(upper)


def subjects_of(n: float, n_squared: float) -> float:
    """As many subjects as would weigh the same with equally many votes each (Kish): n²/Σn_i²; ``n`` without
    sums by subject.
    """
    return n * n / n_squared if n_squared > 0 else n


def design_effect(n: float, won: float, n_squared: float, won_squared: float, product: float) -> float:
    """By how much votes count less than as many subjects would, at least 1 (Rao & Scott 1992).

    With n_i votes of subject i, w_i of them won: ``n`` Σn_i, ``won`` Σw_i, ``n_squared`` Σn_i²,
    ``won_squared`` Σw_i², ``product`` Σw_i·n_i. The variance by subject over the binomial one. Few subjects
    cannot tell it, so it is never below what a correlation of one subject's votes gives that is assumed at
    0.1 and trusted less the more subjects there are. Without sums by subject (``n_squared`` 0) votes count
    in full.
    """
    if n <= 0 or n_squared <= n:  # one vote each
        return 1.0
    subjects = subjects_of(n, n_squared)
    floor = 1 + (n_squared / n - 1) * _CORRELATION * _TRUST / (_TRUST + subjects)
    rate = (won + 0.5) / (n + 1)  # off the edges, where the binomial variance is 0
    between = won_squared - 2 * rate * product + rate * rate * n_squared
    if subjects >= 2:
        between *= subjects / (subjects - 1)  # the rate was fitted to them
    return max(1.0, floor, between / (n * rate * (1 - rate)))


def rate_sample(n: float, won: float, effect: float) -> Sample:
    """A rate whose votes count 1/``effect`` each; its variance is taken off the edges (Agresti & Caffo)."""
    rate = (won + 1) / (n + 2)
    return Sample(won / n, rate * (1 - rate) * effect / n, n / effect)


def mean_sample(n: float, total: float, squared: float) -> Sample:
    """A mean out of a sum and a sum of squares over ``n`` ≥ 2 observations."""
    mean = total / n
    variance = max(0.0, squared / n - mean * mean) * n / (n - 1)
    return Sample(mean, variance / n, n)


def half_width(variance: float, alpha: float, tuned: float) -> float:
    """Half the width of an asymptotic confidence sequence around an estimate of that ``variance``.

    Waudby-Smith et al. 2024, the Gaussian mixture boundary, written in information I = 1/variance:
    ``sqrt((I + 1/ρ²) · log((I·ρ² + 1) / alpha²)) / I``, with ρ such that it is tightest near the
    variance ``tuned``. Valid at all times once there are enough observations for a normal limit.
    """
    information, at = 1 / variance, 1 / tuned
    rho2 = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / at
    return math.sqrt((information + 1 / rho2) * math.log((information * rho2 + 1) / alpha**2)) / information


def difference_interval(
    first: Sample, second: Sample, alpha: float, *, factor: float = 1.0, decisive: float = 200.0
) -> tuple[float, float]:
    """A (1 − alpha) confidence sequence for ``second.mean − factor · first.mean``.

    ``decisive``: observations an arm around which it is tightest. Asymptotic: ask for some 20 an arm first.
    """
    variance = second.variance + factor**2 * first.variance
    estimate = second.mean - factor * first.mean
    if variance <= 0:
        return estimate, estimate
    tuned = (second.variance * second.n + factor**2 * first.variance * first.n) / decisive
    half = half_width(variance, alpha, tuned)
    return estimate - half, estimate + half
