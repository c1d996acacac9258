"""Files go last, and only those that nothing can need."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from feedback.memory import MemoryRegistry
from feedback.protocols import AdapterRecord, AdapterState, AliasRecord, Arm, ExperimentRecord
from serve.adapter_files import ASIDE, ASIDE_SECONDS, LEASE, disposable, sweep
from serve.routing import RouteTable

NAME = "a-000001-0123456789ab"
DAY = 86400.0


def left(state: AdapterState = "retired", days: float = 8.0) -> AdapterRecord:
    step = {"time": time.time() - days * DAY, "from": "candidate", "to": state, "reason": "test"}
    return AdapterRecord(
        id=NAME, alias="heed", state=state, created=1.0, path="", base="", history=(step,), version=1
    )


def table(record: AdapterRecord, **alias: object) -> RouteTable:
    made = AliasRecord(name="heed", **alias)  # type: ignore[arg-type]
    return RouteTable(aliases={"heed": made}, adapters={record.id: record})


def test_only_what_was_left_long_ago_and_leads_nowhere_may_go() -> None:
    assert disposable(left(), table(left()), 7 * DAY)
    assert disposable(left("rejected"), table(left("rejected"), previous=(NAME,)), 7 * DAY)
    assert not disposable(left(days=6.0), table(left()), 7 * DAY)
    assert not disposable(left(), table(left(), previous=("x", NAME)), 7 * DAY)
    assert not disposable(left(), table(left(), live=NAME), 7 * DAY)
    for state in ("candidate", "canary", "live"):
        assert not disposable(left(state), table(left(state)), 7 * DAY)
    arms = (Arm(name="old", adapter=NAME, share=1.0),)
    shown = ExperimentRecord(name="e", alias="heed", arms=arms, salt="s")
    assert not disposable(left(), replace(table(left()), running={"heed": shown}), 7 * DAY)
    odd = replace(left(), id="../../etc")
    assert not disposable(odd, table(odd), 7 * DAY)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "manifest.json").write_text("{}")
    return tmp_path


def age(folder: Path) -> None:
    then = time.time() - ASIDE_SECONDS - 1
    os.utime(folder, (then, then))


def test_a_folder_is_set_aside_first_and_deleted_later(root: Path) -> None:
    registry = MemoryRegistry()
    sweep(root, registry, table(left()), set(), 7 * DAY)
    assert [folder.name for folder in root.iterdir()] == [f"{ASIDE}{NAME}"]
    sweep(root, registry, table(left()), set(), 7 * DAY)
    assert len(list(root.iterdir())) == 1
    age(root / f"{ASIDE}{NAME}")
    sweep(root, registry, table(left()), set(), 7 * DAY)
    assert list(root.iterdir()) == []


def test_nothing_goes_while_an_engine_lists_the_name(root: Path) -> None:
    registry = MemoryRegistry()
    sweep(root, registry, table(left()), {NAME}, 7 * DAY)
    registry.report_engine("engine-7", [NAME], 60.0)
    sweep(root, registry, table(left()), set(), 7 * DAY)
    assert (root / NAME / "manifest.json").exists()


def test_what_an_engine_got_hold_of_meanwhile_is_put_back(root: Path) -> None:
    registry = MemoryRegistry()
    sweep(root, registry, table(left()), set(), 7 * DAY)
    age(root / f"{ASIDE}{NAME}")
    sweep(root, registry, table(left()), {NAME}, 7 * DAY)
    assert (root / NAME / "manifest.json").exists()


def test_one_gateway_sweeps_at_a_time(root: Path) -> None:
    registry = MemoryRegistry()
    registry.acquire(LEASE, "another", 60.0)
    sweep(root, registry, table(left()), set(), 7 * DAY)
    assert (root / NAME).exists()


def test_drafts_of_imports_that_died_are_cleared_away_when_they_are_old(root: Path) -> None:
    old, new = root / ".import-x", root / ".import-y"
    old.mkdir()
    new.mkdir()
    os.utime(old, (1.0, 1.0))
    sweep(root, MemoryRegistry(), table(left("live")), set(), 7 * DAY)
    assert not old.exists()
    assert new.exists()
    assert (root / NAME).exists()
