"""Which adapters have a place, and which goes first: worked out by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from feedback.protocols import AdapterRecord, AdapterState, AliasRecord, Arm, ExperimentRecord
from serve import adapter_slots
from serve.adapter_slots import first_to_go, leaving, wanted
from serve.routing import RouteTable

NOW = 1_000_000.0


@pytest.fixture(autouse=True)
def time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_slots, "time", SimpleNamespace(time=lambda: NOW))


def record(name: str, state: AdapterState = "candidate", alias: str = "heed") -> AdapterRecord:
    """``created`` grows with the name's last digits."""
    created = float("".join(one for one in name if one.isdigit()) or 0)
    return AdapterRecord(id=name, alias=alias, state=state, created=created, path="", base="")


def table(
    *records: AdapterRecord, aliases: tuple[AliasRecord, ...] = (), arms: tuple[str, ...] = ()
) -> RouteTable:
    shown = tuple(Arm(name=one, adapter=one, share=1 / len(arms)) for one in arms)
    running = {"heed": ExperimentRecord(name="e", alias="heed", arms=shown, salt="s")} if arms else {}
    return RouteTable(
        aliases={alias.name: alias for alias in aliases},
        adapters={one.id: one for one in records},
        running=running,
    )


def test_live_arms_rollback_and_the_newest_candidate_come_before_other_candidates() -> None:
    alias = AliasRecord(name="heed", live="live", previous=("back", "older", "oldest"))
    records = [record("live", "live"), record("arm", "canary"), record("arm2", "canary")]
    records += [record(one, "retired") for one in ("back", "older", "oldest")]
    records += [record("new9"), record("new8"), record("no", "rejected")]
    routes = table(*records, aliases=(alias,), arms=("arm", "arm2"))
    assert wanted(routes, {}, [], 15) == ["live", "arm", "arm2", "back", "older", "new9", "new8"]
    assert wanted(routes, {}, [], 4) == ["live", "arm", "arm2", "back"]


def test_what_is_asked_for_by_name_has_a_quarter_of_the_places_whoever_else_waits() -> None:
    routes = table(*(record(f"c{n}") for n in range(20)), record("old", "retired"), record("gone", "retired"))
    assert wanted(routes, {}, ["old", "c3", "unknown"], 4) == ["c19", "old", "c3", "c18"]
    assert wanted(routes, {}, ["old"], 2) == ["c19", "old"]
    assert "gone" not in wanted(routes, {}, ["old"], 30)


def test_more_live_adapters_than_places_are_held_in_the_order_of_their_use() -> None:
    aliases = tuple(AliasRecord(name=f"a{n}", live=f"l{n}") for n in range(6))
    routes = table(*(record(f"l{n}", "live", f"a{n}") for n in range(6)), aliases=aliases)
    used = {f"l{n}": NOW - n for n in (5, 3, 1)}
    assert wanted(routes, used, [], 3) == ["l1", "l3", "l5"]


def test_the_least_recently_used_goes_first_and_never_one_busy_wanted_or_unknown() -> None:
    routes = table(*(record(f"c{n}") for n in range(5)))
    used = {"c0": NOW - 50, "c1": NOW - 90, "c2": NOW - 1, "c3": NOW - 99}
    held = {"c0", "c1", "c2", "c3", "somebody-elses"}
    assert first_to_go(routes, held, {"c3"}, used, {"c2"}) == "c1"
    assert first_to_go(routes, held - {"c1"}, {"c3"}, used, {"c2"}) == "c0"
    assert first_to_go(routes, held - {"c1", "c0"}, {"c3"}, used, {"c2"}) is None
    assert first_to_go(routes, held - {"c1", "c0"}, {"c3"}, used, ()) == "c2"
    assert first_to_go(routes, {"c4", "c0"}, (), used, ()) == "c4"


def test_rejected_ones_leave_and_retired_ones_when_nobody_asks_any_more() -> None:
    names = ("old", "back", "asked")
    routes = table(record("no", "rejected"), record("c"), *(record(one, "retired") for one in names))
    used = {"asked": NOW - 59, "old": NOW - 61, "no": NOW}
    assert leaving(routes, {"no", "old", "back", "asked", "c", "foreign"}, ["back", "c"], used) == [
        "no",
        "old",
    ]
