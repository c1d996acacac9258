"""Who gets which arm."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from feedback.errors import InvalidRecord
from feedback.experiments import assign, draw, next_share, ramped, shares, validate
from feedback.protocols import Arm, ExperimentRecord
from tests.contract.making import experiment

SUBJECTS = [f"s-{n:05d}" for n in range(20_000)]


def split(*parts: float, salt: str = "salt") -> ExperimentRecord:
    return experiment(
        arms=tuple(Arm(name=f"arm{n}", adapter=None, share=p) for n, p in enumerate(parts)), salt=salt
    )


def test_a_subject_always_gets_the_same_arm() -> None:
    record = split(0.5, 0.5)
    assert [assign(record, "s-1")[0].name for _ in range(5)] == [assign(record, "s-1")[0].name] * 5


def test_arms_get_their_shares_of_subjects() -> None:
    record = split(0.7, 0.2, 0.1)
    given = [assign(record, subject)[0].name for subject in SUBJECTS]
    seen = [given.count(f"arm{n}") for n in range(3)]
    assert chisquare(seen, [14_000, 4_000, 2_000]).pvalue > 0.001


def test_draws_are_uniform() -> None:
    assert kstest([draw("salt", subject) for subject in SUBJECTS], "uniform").pvalue > 0.001


def test_experiments_with_other_salts_are_independent() -> None:
    one, two = split(0.5, 0.5, salt="a"), split(0.5, 0.5, salt="b")
    both = sum(assign(one, s)[0].name == assign(two, s)[0].name for s in SUBJECTS)
    assert abs(both / len(SUBJECTS) - 0.5) < 0.02


def test_the_propensity_is_the_share_of_the_arm_that_was_drawn() -> None:
    record = split(0.75, 0.25)
    for subject in SUBJECTS[:100]:
        arm, propensity = assign(record, subject)
        assert propensity == arm.share == shares(record)[arm.name]


@given(start=st.floats(0, 1), end=st.floats(0, 1), subject=st.text(max_size=8))
def test_as_the_last_arm_grows_nobody_leaves_it(start: float, end: float, subject: str) -> None:
    small, large = sorted((start, end))
    before, _ = assign(split(1 - small, small), subject)
    after, _ = assign(split(1 - large, large), subject)
    assert not (before.name == "arm1" and after.name == "arm0")


def test_an_arm_without_a_share_gets_nobody() -> None:
    assert {assign(split(1.0, 0.0), subject)[0].name for subject in SUBJECTS[:500]} == {"arm0"}
    assert {assign(split(0.0, 1.0), subject)[0].name for subject in SUBJECTS[:500]} == {"arm1"}


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (split(1.0), "arms"),
        (split(0.5, 0.4), "arms.share"),
        (split(1.5, -0.5), "arms.share"),
        (split(float("nan"), 0.5), "arms.share"),
        (replace(split(0.5, 0.5), arms=(Arm(name="x", adapter=None, share=0.5),) * 2), "arms"),
        (replace(split(0.5, 0.5), name="a|b"), "name"),
        (
            replace(
                split(1.0),
                arms=(Arm(name="", adapter=None, share=1.0), Arm(name="x", adapter=None, share=0.0)),
            ),
            "arms.name",
        ),
    ],
)
def test_a_wrong_experiment_is_refused_by_its_field(record: ExperimentRecord, field: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        validate(record)
    assert caught.value.field == field


def test_a_ramp_goes_through_its_steps_and_loses_nobody() -> None:
    record, steps, candidates = ramped(split(0.5, 0.5), 0.01), [], set[str]()
    while True:
        steps.append(record.arms[-1].share)
        now = {subject for subject in SUBJECTS[:2000] if assign(record, subject)[0].name == "arm1"}
        assert candidates <= now
        candidates, share = now, next_share(record)
        if share is None:
            break
        record = ramped(record, share)
        validate(record)
    assert steps == [0.01, 0.05, 0.25, 0.5]


def test_a_ramp_scales_the_other_arms() -> None:
    assert shares(ramped(split(0.6, 0.2, 0.2), 0.6)) == pytest.approx({"arm0": 0.3, "arm1": 0.1, "arm2": 0.6})
    assert shares(ramped(split(0.0, 1.0), 0.25)) == {"arm0": 0.75, "arm1": 0.25}
    with pytest.raises(InvalidRecord):
        ramped(split(0.5, 0.5), 1.5)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [((0.99, 0.01), (0.99, 0.02)), ((0.2, 0.3, 0.5), (0.2, 0.3, 0.4)), ((1.0, 0.0), (1.0, -0.1))],
)
def test_an_experiment_is_accepted_when_its_shares_are_whole(
    right: tuple[float, ...], wrong: tuple[float, ...]
) -> None:
    assert validate(split(*right)) is None
    with pytest.raises(InvalidRecord):
        validate(split(*wrong))
