"""What counts say, against values found another way, and by simulation with a look after every vote."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta, binom

from feedback.protocols import ArmCounts, Entered
from feedback.statistics import (
    Limits,
    bandit_shares,
    decide,
    expected_loss,
    probability_best,
    srm_evidence,
    up_rate,
    win_rate,
)


def votes(up: int, down: int, **fields: float) -> ArmCounts:
    """Votes of as many subjects."""
    n = up + down
    return ArmCounts(up=up, down=down, votes_squared=n, up_squared=up, up_votes=up, **fields)  # type: ignore[arg-type]


def entered(*subjects: int, shares: tuple[float, ...] = (0.5, 0.5), phase: str = "p") -> dict[str, ArmCounts]:
    return {
        f"arm{n}": ArmCounts(entered=(Entered(phase, share, count),))
        for n, (share, count) in enumerate(zip(shares, subjects, strict=True))
    }


def test_the_probability_to_be_best_of_two_is_the_integral() -> None:
    found = probability_best({"a": votes(10, 20), "b": votes(18, 14)})
    expected, _ = quad(lambda x: beta.pdf(x, 11, 21) * beta.cdf(x, 19, 15), 0, 1)
    assert found["a"] == pytest.approx(expected, abs=1e-6)
    assert sum(found.values()) == pytest.approx(1)


def test_the_probability_to_be_best_of_three_agrees_with_sampling() -> None:
    counts = {"a": votes(30, 30), "b": votes(36, 24), "c": votes(33, 27)}
    random = np.random.default_rng(5)
    drawn = np.stack([random.beta(1 + c.up, 1 + c.down, 400_000) for c in counts.values()])
    sampled = np.bincount(drawn.argmax(axis=0)) / 400_000
    assert list(probability_best(counts).values()) == pytest.approx(list(sampled), abs=0.003)
    loss = drawn.max(axis=0).mean() - drawn.mean(axis=1)
    assert list(expected_loss(counts).values()) == pytest.approx(list(loss), abs=0.001)


def test_with_a_million_votes_the_integrals_are_still_right() -> None:
    counts = {"a": votes(500_000, 500_000), "b": votes(501_000, 499_000)}
    z = 0.001 / math.sqrt(2 * 0.25 / 1e6)
    spread = math.sqrt(2 * 0.25 / 1e6)  # E[max(0, N(0.001, spread))]
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    mean_of_positive_part = 0.001 * 0.5 * (1 + math.erf(z / math.sqrt(2))) + spread * density
    assert probability_best(counts)["b"] == pytest.approx(0.5 * (1 + math.erf(z / math.sqrt(2))), abs=1e-3)
    assert expected_loss(counts)["a"] == pytest.approx(mean_of_positive_part, rel=1e-3)


def test_arms_nobody_voted_on_are_equally_likely_best() -> None:
    assert probability_best({"a": ArmCounts(), "b": ArmCounts()}) == {
        "a": pytest.approx(0.5),
        "b": pytest.approx(0.5),
    }
    assert probability_best({"a": ArmCounts()}) == {"a": 1.0}


def test_bandit_shares_favour_the_best_spend_half_on_its_rival_and_starve_nobody() -> None:
    shares = bandit_shares({"a": votes(60, 40), "b": votes(50, 50), "c": votes(30, 70)}, floor=0.01)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["a"] == pytest.approx(0.5, abs=0.03)
    assert shares["b"] == pytest.approx(0.49, abs=0.03)
    assert 0.01 <= shares["c"] < 0.02
    sure = bandit_shares({"a": votes(9000, 10), "b": votes(10, 9000), "c": votes(10, 9000)}, floor=0.01)
    assert sure == pytest.approx({"a": 0.495, "b": 0.2525, "c": 0.2525}, abs=1e-6)
    assert bandit_shares({"a": votes(1, 1)}) == {"a": 1.0}


def test_rates_of_clustered_votes_are_as_sure_as_their_subjects() -> None:
    # 20 subjects of 10 equal votes, half of them up: worth 20 votes, less one for the fitted rate.
    clustered = ArmCounts(up=100, down=100, votes_squared=2000, up_squared=1000, up_votes=1000)
    rate, few = up_rate(clustered), up_rate(votes(10, 10))
    assert rate.n == 200
    assert rate.effective == pytest.approx(19, rel=0.01)
    assert (rate.lower, rate.upper) == pytest.approx((few.lower, few.upper), abs=0.02)
    assert up_rate(ArmCounts()).value is None


def test_ties_count_half_in_the_win_rate() -> None:
    rate = win_rate(ArmCounts(wins=7.5, compared=10))
    assert rate.value == 0.75
    assert rate.lower < 0.75 < rate.upper


def test_a_sound_split_gives_no_evidence_and_a_broken_one_does() -> None:
    assert srm_evidence({}) == srm_evidence({"a": ArmCounts(), "b": ArmCounts()}) == 1.0
    assert srm_evidence(entered(500, 500)) < 1
    assert srm_evidence(entered(600, 400)) > 1e5
    assert srm_evidence(entered(950, 50, shares=(0.95, 0.05))) < 1


def test_the_evidence_is_the_beta_binomial_over_the_binomial() -> None:
    prior = (100 * 0.7, 100 * 0.3)
    marginal, _ = quad(lambda p: beta.pdf(p, *prior) * binom.pmf(55, 100, p), 0, 1, points=[0.55, 0.7])
    expected = marginal / binom.pmf(55, 100, 0.7)
    assert srm_evidence(entered(55, 45, shares=(0.7, 0.3))) == pytest.approx(expected, rel=1e-6)


def test_two_arms_of_three_are_judged_by_their_shares_among_themselves() -> None:
    three = entered(500, 250, 250, shares=(0.5, 0.25, 0.25))
    pair = {arm: three[arm] for arm in ("arm0", "arm1")}
    assert srm_evidence(pair) == pytest.approx(srm_evidence(entered(500, 250, shares=(2 / 3, 1 / 3))))
    assert srm_evidence(pair) < 1


def test_a_ramp_is_no_mismatch_although_the_totals_look_like_one() -> None:
    early = {"arm0": Entered("a", 0.99, 990), "arm1": Entered("a", 0.01, 10)}
    late = {"arm0": Entered("b", 0.5, 200), "arm1": Entered("b", 0.5, 200)}
    ramped = {arm: ArmCounts(entered=(early[arm], late[arm])) for arm in early}
    assert srm_evidence(ramped) < 1
    pooled = entered(1190, 210)
    assert srm_evidence(pooled) > 1e10


def test_subjects_in_an_arm_without_a_share_prove_the_split_broken() -> None:
    assert srm_evidence(entered(50, 1, shares=(1.0, 0.0))) > 1e100
    assert srm_evidence(entered(50, 0, shares=(1.0, 0.0))) == pytest.approx(1.0)


def test_looked_at_after_every_subject_a_sound_split_seldom_looks_broken() -> None:
    random = np.random.default_rng(11)
    alarms = 0
    for _ in range(400):
        arms = np.cumsum(random.random(300) < 0.3)
        alarms += any(
            srm_evidence(entered(n - int(arms[n - 1]), int(arms[n - 1]), shares=(0.7, 0.3))) > 10
            for n in range(5, 300, 5)
        )
    assert alarms / 400 <= 0.1 + 2 * math.sqrt(0.1 * 0.9 / 400)


def test_a_clear_gain_is_promoted_and_a_clear_loss_rolled_back() -> None:
    control, better = votes(100, 100), votes(150, 50)
    assert decide(control, better).action == "promote"
    assert decide(better, control).action == "roll_back"
    assert "at least" in decide(control, better).reason


def test_without_enough_votes_the_verdict_is_to_wait_with_the_reason() -> None:
    verdict = decide(votes(0, 19), votes(19, 0))
    assert verdict.action == "wait"
    assert "too few votes on an arm, of 19 and 19" in verdict.reason
    open_question = decide(votes(100, 100), votes(110, 90))
    assert open_question.action == "wait"
    assert "inconclusive" in open_question.reason


def test_many_votes_of_few_subjects_are_not_enough() -> None:
    one_fan = ArmCounts(up=500, votes_squared=500**2, up_squared=500**2, up_votes=500**2)
    assert decide(votes(100, 100), one_fan).action == "wait"


def test_an_experiment_that_shows_no_difference_that_matters_ends() -> None:
    verdict = decide(votes(50_000, 50_000), votes(50_000, 50_000))
    assert verdict.action == "stop"
    assert "no difference that matters" in verdict.reason
    tired = decide(votes(2600, 2600), votes(2650, 2550), Limits(enough_votes=5000))
    assert (tired.action, "inconclusive after" in tired.reason) == ("stop", True)


def test_comparisons_alone_can_decide() -> None:
    assert decide(ArmCounts(), ArmCounts(wins=90, compared=120)).action == "promote"
    assert decide(ArmCounts(), ArmCounts(wins=30, compared=120)).action == "roll_back"
    assert decide(ArmCounts(), ArmCounts(wins=60, compared=120)).action == "wait"


def test_one_kind_of_feedback_that_is_worse_outweighs_another_that_is_better() -> None:
    torn = replace(votes(180, 20), wins=20.0, compared=120)
    assert decide(votes(100, 100), torn).action == "roll_back"


def test_a_broken_split_stops_whatever_the_votes_say() -> None:
    control = replace(votes(100, 100), entered=(Entered("p", 0.5, 600),))
    candidate = replace(votes(180, 20), entered=(Entered("p", 0.5, 400),))
    verdict = decide(control, candidate)
    assert verdict.action == "stop"
    assert "split is broken" in verdict.reason


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"errors": 40}, "errors"),
        ({"duration_seconds": 600.0, "duration_squared": 2000.0}, "duration"),
        ({"completion_tokens": 6000, "tokens_squared": 200_000.0}, "tokens"),
    ],
)
def test_a_broken_guardrail_rolls_back_although_votes_are_better(fields: dict[str, float], word: str) -> None:
    usual = {"exposures": 200, "duration_seconds": 200.0, "duration_squared": 220.0}
    usual |= {"completion_tokens": 2000, "tokens_squared": 22_000.0}
    control, candidate = votes(100, 100, **usual), votes(180, 20, **{**usual, **fields})
    verdict = decide(control, candidate)
    assert verdict.action == "roll_back"
    assert word in verdict.reason
    assert decide(control, votes(180, 20, **usual)).action == "promote"


def test_a_little_slower_is_within_the_guardrail() -> None:
    usual = {"exposures": 200, "duration_seconds": 200.0, "duration_squared": 220.0}
    slower = {"exposures": 200, "duration_seconds": 260.0, "duration_squared": 370.0}
    assert decide(votes(100, 100, **usual), votes(180, 20, **slower)).action == "promote"


@pytest.mark.parametrize(("rate", "share"), [(0.5, 0.5), (0.9, 0.5), (0.6, 0.1)])
def test_looked_at_after_every_vote_a_candidate_no_better_is_seldom_ever_promoted(
    rate: float, share: float
) -> None:
    """400 experiments of 1,500 votes without any difference; a promotion or rollback at any look counts."""
    random = np.random.default_rng(13)
    limits, promoted, ended = Limits(), 0, 0
    for _ in range(400):
        arm = random.random(1500) < share
        up = random.random(1500) < rate
        first = None
        for n in [*range(40, 400, 8), *range(400, 1501, 50)]:
            ours, theirs = arm[:n], ~arm[:n]
            good, bad = int(up[:n][ours].sum()), int(up[:n][theirs].sum())
            control = votes(bad, int(theirs.sum()) - bad)
            verdict = decide(control, votes(good, int(ours.sum()) - good), limits)
            if verdict.action in ("promote", "roll_back"):
                first = verdict.action
                break
        promoted += first == "promote"
        ended += first is not None
    assert promoted / 400 <= limits.alpha
    assert ended / 400 <= limits.alpha


def test_subjects_who_vote_alike_and_often_do_not_make_a_difference_out_of_chance() -> None:
    """30 subjects an arm with tastes all over the place, 10 votes each in a row, a look after every tenth."""
    random = np.random.default_rng(19)
    promoted = 0
    for _ in range(150):
        tastes = random.random((2, 30))
        n, up = np.zeros((2, 30)), np.zeros((2, 30))
        for person in random.permutation(60):
            arm, who = person % 2, person // 2
            n[arm, who], up[arm, who] = 10, random.binomial(10, tastes[arm, who])
            control, candidate = (
                ArmCounts(
                    up=int(up[side].sum()),
                    down=int((n - up)[side].sum()),
                    votes_squared=float((n[side] ** 2).sum()),
                    up_squared=float((up[side] ** 2).sum()),
                    up_votes=float((up[side] * n[side]).sum()),
                )
                for side in (0, 1)
            )
            verdict = decide(control, candidate)
            if verdict.action != "wait":
                promoted += verdict.action == "promote"
                break
    assert promoted / 150 <= 0.05


def test_a_gain_of_fifteen_points_is_found_within_the_first_five_hundred_votes() -> None:
    random = np.random.default_rng(17)
    found = 0
    for _ in range(100):
        good, usual = int((random.random(250) < 0.7).sum()), int((random.random(250) < 0.5).sum())
        found += decide(votes(usual, 250 - usual), votes(good, 250 - good)).action == "promote"
    assert found >= 80
