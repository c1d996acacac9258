"""Which arm answers."""

from __future__ import annotations

import random

import pytest

from feedback.protocols import AdapterRecord, AliasRecord, Arm, ExperimentRecord
from serve.errors import NotFound, Unavailable
from serve.routing import Plan, RouteTable


def adapter(name: str, alias: str = "heed", state: str = "candidate") -> AdapterRecord:
    return AdapterRecord(id=name, alias=alias, state=state, created=1.0, path="", base="")  # type: ignore[arg-type]


ARMS = (
    Arm(name="control", adapter=None, share=0.5),
    Arm(name="new", adapter="a-2", share=0.5, sampling={"top_p": 0.9, "bogus": 1}),
)
EXPERIMENT = ExperimentRecord(name="exp", alias="heed", arms=ARMS, salt="x")
LIVE = RouteTable(
    aliases={"heed": AliasRecord(name="heed", live="a-1", previous=("a-0", None), guidelines="Be kind.")},
    adapters={one: adapter(one) for one in ("a-0", "a-1", "a-2")} | {"b-1": adapter("b-1", alias="other")},
)
SPLIT = RouteTable(aliases=LIVE.aliases, adapters=LIVE.adapters, running={"heed": EXPERIMENT})


def test_without_an_experiment_the_live_adapter_answers() -> None:
    plan = LIVE.plan("heed", None, "s-1")
    assert (plan.adapter, plan.arm, plan.experiment, plan.propensity) == ("a-1", "live", None, 1.0)
    assert plan.guidelines == "Be kind."


def test_before_the_first_adapter_the_base_answers() -> None:
    assert RouteTable(aliases={"heed": AliasRecord(name="heed")}).plan("heed", None, "s-1").adapter == "base"


def test_an_experiment_assigns_each_subject_to_one_arm_for_ever() -> None:
    plans = {subject: SPLIT.plan("heed", None, subject) for subject in (f"s-{n}" for n in range(200))}
    assert {plan.arm for plan in plans.values()} == {"control", "new"}
    assert all(SPLIT.plan("heed", None, subject) == plan for subject, plan in plans.items())
    assert all(plan.propensity == 0.5 for plan in plans.values())
    new = next(plan for plan in plans.values() if plan.arm == "new")
    assert (new.adapter, dict(new.sampling), new.experiment) == ("a-2", {"top_p": 0.9}, "exp")


@pytest.mark.parametrize("pinned", ["a-9", "b-1", "live"])
def test_what_is_not_the_aliass_own_cannot_be_pinned(pinned: str) -> None:
    with pytest.raises(NotFound):
        LIVE.plan("heed", pinned, "s-1")


def test_base_and_own_adapters_can_be_pinned() -> None:
    assert LIVE.plan("heed", "base", "s-1").adapter == "base"
    assert LIVE.plan("heed", "a-2", "s-1").adapter == "a-2"


def test_an_adapter_that_is_ready_nowhere_falls_back_to_the_former_one_then_to_base() -> None:
    plan = SPLIT.plan("heed", None, "s-1")
    wanted = Plan("heed", "a-2", arm="new", experiment="exp", propensity=0.5, guidelines="Be kind.")
    assert SPLIT.fallback(wanted, lambda _: True) is wanted
    for ready, served in (({"a-1"}, "a-1"), ({"a-0"}, "a-0"), (set(), "base")):
        plan = SPLIT.fallback(wanted, ready.__contains__)
        assert (plan.adapter, plan.arm, plan.experiment) == (served, "fallback", None)
        assert plan.guidelines == "Be kind."


def test_a_pinned_adapter_that_is_not_ready_is_told_and_not_replaced() -> None:
    with pytest.raises(Unavailable):
        LIVE.fallback(LIVE.plan("heed", "a-2", "s-1"), lambda _: False)


def test_a_comparison_during_an_experiment_shows_two_of_its_arms() -> None:
    for seed in range(20):
        pair = SPLIT.pair("heed", "s-1", random.Random(seed), 0.0)
        assert {plan.arm for plan in pair} == {"control", "new"}


def test_sides_are_at_random() -> None:
    firsts = [SPLIT.pair("heed", "s-1", random.Random(seed), 0.0)[0].arm for seed in range(200)]
    assert 60 < firsts.count("new") < 140


def test_without_an_experiment_a_share_of_comparisons_is_with_the_base() -> None:
    always = LIVE.pair("heed", "s-1", random.Random(1), 1.0)
    assert {plan.adapter for plan in always} == {"a-1", "base"}
    never = LIVE.pair("heed", "s-1", random.Random(1), 0.0)
    assert [plan.adapter for plan in never] == ["a-1", "a-1"]
