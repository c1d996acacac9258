"""What every registry promises about records, promotion and rollback."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.errors import Conflict, InvalidRecord, InvalidTransition, UnknownRecord
from feedback.protocols import (
    USES_KEPT,
    AdapterState,
    AliasRecord,
    Arm,
    ExperimentRecord,
    KeyRecord,
    Registry,
)
from feedback.states import EDGES
from tests.contract.making import adapter, experiment
from tests.exploring import examples


def with_adapters(registry: Registry, *names: str) -> None:
    registry.put_alias(AliasRecord(name="heed"))
    for n, name in enumerate(names):
        registry.add_adapter(adapter(name, created=float(n)))


def states(registry: Registry) -> dict[str, str]:
    return {record.id: record.state for record in registry.adapters()}


def test_a_record_reads_as_it_was_written(registry: Registry) -> None:
    record = adapter(
        parent="a-0",
        batches=("b-1", "b-2"),
        training={"kl": 0.5},
        gate={"passed": True, "checks": [{"check": "length", "value": 1.0}]},
        newest_vote=9.5,
    )
    assert registry.add_adapter(record) == record
    assert registry.adapter(record.id) == record
    written = registry.put_experiment(
        experiment(arms=(Arm(name="x", adapter=None, share=1.0, sampling={"top_p": 0.5}),))
    )
    assert registry.experiment("exp") == written
    key = KeyRecord(id="k-1", digest="d", scopes=("chat", "ops"), created=1.0)
    registry.put_key(key)
    assert registry.keys() == [key]


@pytest.mark.parametrize("kind", ["adapter", "alias", "experiment", "receipt"])
def test_what_does_not_exist_is_said_by_kind_and_name(registry: Registry, kind: str) -> None:
    with pytest.raises(UnknownRecord, match=f"no {kind} 'none'"):
        getattr(registry, kind)("none")


def test_numbers_of_adapters_are_never_given_twice(registry: Registry) -> None:
    assert [registry.next_sequence() for _ in range(3)] == [1, 2, 3]


def test_adding_an_adapter_again_changes_nothing(registry: Registry) -> None:
    with_adapters(registry, "a-1")
    registry.transition("a-1", "canary", "looks good")
    generation = registry.generation()
    assert registry.add_adapter(adapter("a-1")).state == "canary"
    assert registry.generation() == generation


def test_adapters_come_oldest_first_and_by_alias(registry: Registry) -> None:
    for name, alias, created in [("a-3", "heed", 3.0), ("a-1", "other", 1.0), ("a-2", "heed", 2.0)]:
        registry.add_adapter(adapter(name, alias=alias, created=created))
    assert [record.id for record in registry.adapters()] == ["a-1", "a-2", "a-3"]
    assert [record.id for record in registry.adapters("heed")] == ["a-2", "a-3"]


def test_a_record_is_written_only_over_the_version_it_was_read_at(registry: Registry) -> None:
    first = registry.put_alias(AliasRecord(name="heed"))
    assert first.version == 1
    second = registry.put_alias(replace(first, guidelines="be kind"))
    assert second.version == 2
    with pytest.raises(Conflict) as caught:
        registry.put_alias(replace(first, guidelines="be rude"))
    assert (caught.value.expected, caught.value.found) == (1, 2)
    with pytest.raises(Conflict):
        registry.put_alias(AliasRecord(name="heed"))
    with pytest.raises(Conflict):
        registry.put_alias(AliasRecord(name="new", version=3))
    assert registry.alias("heed").guidelines == "be kind"


def test_of_writers_that_race_one_wins_each_round(registry: Registry) -> None:
    registry.put_alias(AliasRecord(name="heed"))
    won: list[int] = []

    def write(n: int) -> None:
        for _ in range(10):
            while True:
                record = registry.alias("heed")
                try:
                    registry.put_alias(replace(record, guidelines=record.guidelines + str(n)))
                except Conflict:
                    continue
                won.append(n)
                break

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(registry.alias("heed").guidelines) == sorted(str(n) for n in won)
    assert registry.alias("heed").version == 41


def test_every_change_of_a_record_and_nothing_else_bumps_the_generation(registry: Registry) -> None:
    seen = [registry.generation()]
    changes = [
        lambda: registry.put_alias(AliasRecord(name="heed")),
        lambda: registry.add_adapter(adapter("a-1")),
        lambda: registry.transition("a-1", "canary", ""),
        lambda: registry.put_experiment(experiment()),
        lambda: registry.promote("heed", "a-1", ""),
        lambda: registry.rollback("heed", ""),
        lambda: registry.put_key(KeyRecord(id="k-1", digest="d", scopes=(), created=1.0)),
    ]
    for change in changes:
        change()
        seen.append(registry.generation())
    assert all(later > earlier for earlier, later in pairwise(seen))
    registry.set_loop("heed", {"step": "ppo"})
    registry.report_engine("engine-0", [], 10)
    registry.acquire("train", "w", 10)
    registry.put_receipt({"id": "fr-1", "requested": 1.0})
    assert registry.generation() == seen[-1]


@pytest.mark.parametrize("start", sorted(EDGES))
@pytest.mark.parametrize("to", sorted(EDGES))
def test_only_the_edges_of_the_state_machine_can_be_taken(
    registry: Registry, start: AdapterState, to: AdapterState
) -> None:
    registry.add_adapter(adapter("a-1", state=start))
    if to in EDGES[start] and "live" not in (start, to):
        moved = registry.transition("a-1", to, "because")
        assert (moved.state, moved.reason, moved.version) == (to, "because", 1)
        assert [(step["from"], step["to"], step["reason"]) for step in moved.history] == [
            (start, to, "because")
        ]
        assert registry.adapter("a-1") == moved
    else:
        with pytest.raises(InvalidTransition):
            registry.transition("a-1", to, "because")
        assert states(registry) == {"a-1": start}


def test_a_rejected_adapter_that_was_retired_for_cleaning_never_comes_back(registry: Registry) -> None:
    with_adapters(registry, "a-1")
    registry.transition("a-1", "rejected", "gate")
    registry.transition("a-1", "retired", "files removed")
    with pytest.raises(InvalidTransition):
        registry.promote("heed", "a-1", "")
    with pytest.raises(InvalidTransition):
        registry.transition("a-1", "canary", "")


def test_promotion_moves_alias_and_both_adapters_in_one_step(registry: Registry) -> None:
    with_adapters(registry, "a-1", "a-2")
    registry.promote("heed", "a-1", "better")
    after = registry.promote("heed", "a-2", "better still")
    assert (after.live, after.previous) == ("a-2", ("a-1", None))
    assert states(registry) == {"a-1": "retired", "a-2": "live"}
    assert registry.adapter("a-2").reason == "better still"
    assert registry.adapter("a-1").reason == "followed by a-2"
    assert registry.alias("heed") == after


def test_promoting_what_is_live_changes_nothing(registry: Registry) -> None:
    with_adapters(registry, "a-1")
    first, generation = registry.promote("heed", "a-1", ""), registry.generation()
    assert registry.promote("heed", "a-1", "again") == first
    assert registry.generation() == generation


def test_base_can_be_promoted(registry: Registry) -> None:
    with_adapters(registry, "a-1")
    registry.promote("heed", "a-1", "")
    after = registry.promote("heed", None, "start over")
    assert (after.live, after.previous) == (None, ("a-1", None))
    assert states(registry) == {"a-1": "retired"}


@pytest.mark.parametrize("wrong", ["rejected", "unknown", "foreign"])
def test_a_promotion_that_cannot_be_leaves_everything_as_it_was(registry: Registry, wrong: str) -> None:
    with_adapters(registry, "a-1", "a-2")
    registry.promote("heed", "a-1", "")
    registry.transition("a-2", "rejected", "")
    registry.add_adapter(adapter("a-3", alias="other"))
    name, error = {
        "rejected": ("a-2", InvalidTransition),
        "unknown": ("a-9", UnknownRecord),
        "foreign": ("a-3", InvalidRecord),
    }[wrong]
    before, held = registry.alias("heed"), states(registry)
    with pytest.raises(error):
        registry.promote("heed", name, "")
    assert (registry.alias("heed"), states(registry)) == (before, held)


def test_rollback_goes_back_and_rejects_what_is_left(registry: Registry) -> None:
    with_adapters(registry, "a-1", "a-2")
    registry.promote("heed", "a-1", "")
    registry.promote("heed", "a-2", "")
    after = registry.rollback("heed", "errors")
    assert (after.live, after.previous) == ("a-1", (None,))
    assert states(registry) == {"a-1": "live", "a-2": "rejected"}
    assert registry.adapter("a-2").reason == "errors"
    assert registry.rollback("heed", "errors too").live is None
    assert states(registry) == {"a-1": "rejected", "a-2": "rejected"}


def test_rollback_with_nothing_before_is_refused(registry: Registry) -> None:
    with_adapters(registry)
    with pytest.raises(InvalidTransition):
        registry.rollback("heed", "")
    with pytest.raises(UnknownRecord):
        registry.rollback("none", "")


def test_rollback_passes_over_what_was_rejected_since(registry: Registry) -> None:
    with_adapters(registry, "a-1", "a-2", "a-3")
    for name in ("a-1", "a-2", "a-3"):
        registry.promote("heed", name, "")
    registry.transition("a-2", "rejected", "found out")
    assert registry.rollback("heed", "bad").live == "a-1"
    assert states(registry) == {"a-1": "live", "a-2": "rejected", "a-3": "rejected"}


def test_rollback_from_base_goes_to_the_adapter_before_it(registry: Registry) -> None:
    with_adapters(registry, "a-1")
    registry.promote("heed", "a-1", "")
    registry.promote("heed", None, "")
    assert registry.rollback("heed", "base was worse").live == "a-1"


def test_a_live_adapter_is_not_retired_under_its_alias(registry: Registry) -> None:
    with_adapters(registry, "a-1")
    registry.promote("heed", "a-1", "")
    for to in ("retired", "rejected"):
        with pytest.raises(InvalidTransition, match="rolled back"):
            registry.transition("a-1", to, "")  # type: ignore[arg-type]


@examples(40)
@given(steps=st.lists(st.sampled_from(["a", "b", "c", "base", "back"]), max_size=12))
def test_whatever_is_promoted_and_rolled_back_exactly_the_aliass_adapter_is_live(
    registry: Registry, steps: list[str]
) -> None:
    name = f"alias-{registry.next_sequence()}"
    registry.put_alias(AliasRecord(name=name))
    for letter in "abc":
        registry.add_adapter(adapter(f"{name}-{letter}", alias=name))
    for step in steps:
        try:
            if step == "back":
                registry.rollback(name, "")
            else:
                registry.promote(name, None if step == "base" else f"{name}-{step}", "")
        except InvalidTransition:
            continue
        live = [record.id for record in registry.adapters(name) if record.state == "live"]
        assert live == [one for one in [registry.alias(name).live] if one is not None]


def test_at_most_one_experiment_runs_per_alias(registry: Registry) -> None:
    first = registry.put_experiment(experiment("one"))
    with pytest.raises(Conflict, match="one runs on alias heed"):
        registry.put_experiment(experiment("two"))
    registry.put_experiment(experiment("elsewhere", alias="other"))
    registry.put_experiment(replace(first, status="stopped"))
    assert registry.put_experiment(experiment("two")).version == 1
    assert [record.name for record in registry.experiments("heed")] == ["one", "two"]


def split(control: str | None, owner: Literal["loop", "people"], name: str = "exp") -> ExperimentRecord:
    """Between ``control`` and a-2."""
    arms = (Arm(name="control", adapter=control, share=0.9), Arm(name="candidate", adapter="a-2", share=0.1))
    return experiment(name, arms=arms, owner=owner)


@pytest.mark.parametrize(("control", "owner"), [("a-1", "loop"), ("a-1", "people"), (None, "loop")])
def test_a_rollback_ends_the_experiment_in_which_what_is_left_would_go_on_answering(
    registry: Registry, control: str | None, owner: Literal["loop", "people"]
) -> None:
    with_adapters(registry, "a-1", "a-2")
    registry.promote("heed", "a-1", "")
    registry.transition("a-2", "canary", "")
    running = registry.put_experiment(split(control, owner))
    registry.rollback("heed", "complaints")
    ended = registry.experiment("exp")
    assert (ended.status, ended.arms, ended.version) == ("stopped", running.arms, running.version + 1)
    assert (ended.history[-1]["what"], ended.history[-1]["reason"]) == ("stopped", "rolled back: complaints")
    assert states(registry) == {"a-1": "rejected", "a-2": "canary"}
    with pytest.raises(Conflict):
        registry.put_experiment(replace(running, arms=running.arms[::-1]))  # a ramp that was under way


def test_a_rollback_leaves_other_experiments_alone(registry: Registry) -> None:
    with_adapters(registry, "a-1", "a-2")
    registry.promote("heed", "a-1", "")
    theirs = registry.put_experiment(split(None, "people"))
    other = registry.put_experiment(experiment("other", alias="other", owner="loop"))
    over = registry.put_experiment(replace(split("a-1", "loop", "over"), status="stopped"))
    registry.rollback("heed", "")
    assert [registry.experiment(one.name) for one in (theirs, other, over)] == [theirs, other, over]


@pytest.mark.parametrize(("owner", "status"), [("loop", "stopped"), ("people", "running")])
def test_a_promotion_ends_the_experiment_of_the_loop_whose_control_it_replaces(
    registry: Registry, owner: Literal["loop", "people"], status: str
) -> None:
    with_adapters(registry, "a-1", "a-2", "a-3")
    registry.promote("heed", "a-1", "")
    before = registry.put_experiment(split("a-1", owner))
    registry.promote("heed", "a-1", "it is live already")
    assert registry.experiment("exp") == before
    registry.promote("heed", "a-3", "by hand")
    after = registry.experiment("exp")
    assert after.status == status
    assert after.history == before.history or after.history[-1]["reason"] == "a-3 is live: by hand"


def test_no_experiment_runs_with_a_rejected_arm(registry: Registry) -> None:
    with_adapters(registry, "a-2")
    running = registry.put_experiment(split(None, "people"))
    registry.transition("a-2", "rejected", "unfit")
    with pytest.raises(InvalidTransition, match="a-2 is rejected"):
        registry.put_experiment(running)
    stopped = registry.put_experiment(replace(running, status="stopped"))
    with pytest.raises(InvalidTransition, match="a-2 is rejected"):
        registry.put_experiment(replace(stopped, status="running"))


def test_engines_are_those_whose_reports_have_not_run_out(registry: Registry) -> None:
    registry.report_engine("engine-1", ["a-1"], 60)
    registry.report_engine("engine-0", ["a-1", "a-2"], 60)
    registry.report_engine("engine-9", ["a-1"], 0.001)
    deadline = threading.Event()
    deadline.wait(0.05)
    assert registry.engines() == {"engine-0": ("a-1", "a-2"), "engine-1": ("a-1",)}
    registry.report_engine("engine-1", [], 60)
    assert registry.engines()["engine-1"] == ()


def test_the_loops_state_is_merged_by_field_and_kept_by_alias(registry: Registry) -> None:
    registry.set_loop("heed", {"step": {"name": "ppo", "fraction": 0.5}, "last_batch": None})
    registry.set_loop("heed", {"last_batch": "b-1"})
    registry.set_loop("heed", {})
    assert registry.loop("heed") == {"step": {"name": "ppo", "fraction": 0.5}, "last_batch": "b-1"}
    assert registry.loop("other") == {}


def test_receipts_are_kept_by_id_and_come_oldest_first(registry: Registry) -> None:
    for name, requested in [("fr-2", 2.0), ("fr-1", 1.0), ("fr-2", 3.0)]:
        registry.put_receipt({"id": name, "requested": requested})
    assert [receipt["id"] for receipt in registry.receipts()] == ["fr-1", "fr-2"]
    assert registry.receipt("fr-2")["requested"] == 3.0


def test_gateways_hear_from_each_other_when_an_adapter_was_last_asked_for(registry: Registry) -> None:
    before = registry.generation()
    assert registry.uses({}) == {}
    assert registry.uses({"a-1": 10.0, "a-2": 20.5}) == {"a-1": 10.0, "a-2": 20.5}
    assert registry.uses({"a-1": 30.0, "a-2": 5.0}) == {"a-1": 30.0, "a-2": 20.5}
    assert registry.uses({}) == {"a-1": 30.0, "a-2": 20.5}
    assert registry.generation() == before


def test_only_the_last_uses_are_kept(registry: Registry) -> None:
    told = {f"a-{number:04d}": float(number) for number in range(USES_KEPT + 10)}
    assert sorted(registry.uses(told)) == [f"a-{number:04d}" for number in range(10, USES_KEPT + 10)]


def test_an_engine_drains_until_it_is_told_otherwise_and_gateways_hear_of_it(registry: Registry) -> None:
    before = registry.generation()
    registry.drain("engine-1", True)
    registry.drain("engine-0", True)
    assert registry.draining() == {"engine-0", "engine-1"}
    assert registry.generation() == before + 2
    registry.drain("engine-1", False)
    registry.drain("engine-9", False)
    assert registry.draining() == {"engine-0"}
