"""Intervals: against values found another way, and by simulation at every look."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from feedback.intervals import (
    Sample,
    design_effect,
    difference_interval,
    half_width,
    mean_sample,
    rate_interval,
    rate_sample,
    subjects_of,
)


@pytest.mark.parametrize(("successes", "n"), [(3, 10), (50, 100), (0, 20), (20, 20), (7.5, 31)])
def test_the_bounds_are_where_the_mixture_of_likelihood_ratios_is_one_over_alpha(
    successes: float, n: float
) -> None:
    """The mixture by numeric integration of the Beta(½, ½) density, not by its closed form."""
    f = n - successes

    def mixture(theta: float) -> float:
        log_null = successes * math.log(theta) + f * math.log1p(-theta)
        # p = sin²(x) turns the Beta(½, ½) density into the constant 2/π on (0, π/2).
        value, _ = quad(
            lambda x: (
                2
                / math.pi
                * math.exp(successes * 2 * math.log(math.sin(x)) + f * 2 * math.log(math.cos(x)) - log_null)
            ),
            1e-9,
            math.pi / 2 - 1e-9,
            limit=200,
        )
        return value

    lower, upper = rate_interval(successes, n, alpha=0.05)
    for bound in (lower, upper):
        if 0 < bound < 1:
            assert mixture(bound) == pytest.approx(20, rel=1e-5)
    assert (lower == 0) == (successes == 0)
    assert (upper == 1) == (successes == n)


def test_without_observations_anything_is_possible() -> None:
    assert rate_interval(0, 0) == (0.0, 1.0)


@given(s=st.integers(0, 200), extra=st.integers(0, 200), alpha=st.sampled_from([0.01, 0.05, 0.2]))
def test_an_interval_holds_the_estimate_mirrors_and_narrows_with_alpha(
    s: int, extra: int, alpha: float
) -> None:
    n = s + extra
    lower, upper = rate_interval(s, n, alpha)
    assert 0 <= lower <= (s / n if n else 0.5) <= upper <= 1
    mirrored = rate_interval(extra, n, alpha)
    assert (1 - upper, 1 - lower) == pytest.approx(mirrored, abs=1e-9)
    wider = rate_interval(s, n, alpha / 2)
    assert wider[0] <= lower + 1e-12
    assert wider[1] >= upper - 1e-12


@pytest.mark.parametrize(("successes", "n", "alpha"), [(-1, 5, 0.05), (6, 5, 0.05), (1, 5, 0.0), (1, 5, 1.0)])
def test_counts_that_cannot_be_are_refused(successes: float, n: float, alpha: float) -> None:
    with pytest.raises(ValueError, match="needs 0 <= successes"):
        rate_interval(successes, n, alpha)


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.02])
def test_looked_at_after_every_vote_the_interval_ever_misses_the_truth_no_more_often_than_alpha(
    rate: float,
) -> None:
    """1,000 runs of 400 votes with an interval after each; a miss at any look is a miss of the run."""
    random = np.random.default_rng(7)
    alpha, runs, length = 0.1, 1000, 400
    sums = np.cumsum(random.random((runs, length)) < rate, axis=1)
    # By the interval's definition the truth is inside unless the mixture exceeds 1/alpha at it.
    bounds = {n: [k for k in range(n + 1) if not _inside(rate, k, n, alpha)] for n in range(1, length + 1, 3)}
    missed = np.zeros(runs, dtype=bool)
    for n, outside in bounds.items():
        missed |= np.isin(sums[:, n - 1], outside)
    assert missed.mean() <= alpha + 2 * math.sqrt(alpha * (1 - alpha) / runs)


def _inside(rate: float, k: int, n: int, alpha: float) -> bool:
    spread = 6 * math.sqrt(n * rate * (1 - rate)) + 3
    if abs(k - n * rate) > spread:
        return False
    lower, upper = rate_interval(k, n, alpha)
    return lower <= rate <= upper


def test_subjects_with_one_vote_each_count_in_full() -> None:
    # 100 subjects, 60 up: Σn² = 100, Σw² = 60, Σwn = 60.
    assert design_effect(100, 60, 100, 60, 60) == 1.0


def test_subjects_who_always_vote_alike_count_once_each() -> None:
    # 20 subjects with 10 votes each, 10 of them all up, 10 all down: 200 votes are worth 20, less the one
    # degree of freedom of the rate.
    assert design_effect(200, 100, 20 * 100, 10 * 100, 10 * 100) == pytest.approx(10 * 20 / 19, rel=0.001)


def test_one_subject_with_many_votes_is_worth_about_ten() -> None:
    effect = design_effect(1000, 1000, 1000**2, 1000**2, 1000**2)
    assert effect == pytest.approx(1 + 999 * 0.1 * 10 / 11)
    assert 10 < 1000 / effect < 11


def test_without_sums_by_subject_votes_count_in_full() -> None:
    assert design_effect(100, 60, 0, 0, 0) == 1.0
    assert design_effect(0, 0, 0, 0, 0) == 1.0


def test_the_design_effect_is_the_ratio_of_the_variances_it_claims() -> None:
    """Against the variance of the pooled rate over simulated worlds with correlated subjects."""
    random = np.random.default_rng(3)
    rates, effects = [], []
    for _ in range(600):
        tastes = random.beta(1, 1, size=80)
        ups = random.binomial(8, tastes)
        n, won = 640, int(ups.sum())
        rates.append(won / n)
        effects.append(design_effect(n, won, 80 * 64, float((ups**2).sum()), float((ups * 8).sum())))
    binomial = 0.25 / 640
    assert np.mean(effects) == pytest.approx(np.var(rates) / binomial, rel=0.15)


def test_subjects_are_as_many_as_would_weigh_the_same() -> None:
    assert subjects_of(30, 3 * 10**2) == 3
    assert subjects_of(1000 + 10, 1000**2 + 10) == pytest.approx(1.02, abs=0.01)
    assert subjects_of(40, 0) == 40


def test_a_mean_and_its_variance_are_those_of_the_observations() -> None:
    values = np.array([1.0, 2.0, 4.0, 9.0])
    sample = mean_sample(4, values.sum(), (values**2).sum())
    assert sample.mean == 4.0
    assert sample.variance == pytest.approx(np.var(values, ddof=1) / 4)


def test_a_rates_variance_is_never_zero() -> None:
    assert rate_sample(10, 10, 1.0).variance == pytest.approx((11 / 12) * (1 / 12) / 10)
    assert rate_sample(100, 50, 4.0).variance == pytest.approx(4 * 0.25 / 100)


def test_the_half_width_is_the_papers_formula() -> None:
    """Waudby-Smith et al., eq. (4), for t observations of unit variance and ρ tuned at t = 100."""
    alpha, t = 0.05, 250
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / 100
    paper = math.sqrt(2 * (t * rho2 + 1) / (t**2 * rho2) * math.log(math.sqrt(t * rho2 + 1) / alpha))
    assert half_width(1 / t, alpha, tuned=1 / 100) == pytest.approx(paper, rel=1e-12)


def test_a_difference_without_variance_is_known() -> None:
    assert difference_interval(Sample(1.0, 0.0, 5), Sample(3.0, 0.0, 5), 0.05, factor=2.0) == (1.0, 1.0)
