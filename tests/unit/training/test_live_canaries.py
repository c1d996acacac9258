"""The canaries on what is live: what they count, what is told, what is done, and the task with a small model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from feedback.memory import MemoryEventLog, MemoryRegistry
from feedback.protocols import AdapterRecord, AliasRecord, Arm, ExperimentRecord
from tests.contract.making import response
from tests.unit.training.tiny import ask
from training import live_canaries, rounds, tasks
from training.attempts import lease_of
from training.choosing import Asked
from training.examples import Demonstration
from training.live_canaries import Watch, compared, safety
from training.safety import prompts as unsafe_prompts
from training.settings import TrainingSettings
from training.sft import SFTConfig, fit
from training.trunk import Trunk

REFUSAL, ANSWER, QUESTION = "I can't help you.", "At nine.", "Which day?"
GATE = {"passed": True, "checks": [{"check": "refusals", "verdict": "passed", "value": 0.03, "bar": 0.1}]}


def replies(count: int, of: int, text: str) -> list[str]:
    return [text] * count + [ANSWER] * (of - count)


@pytest.mark.parametrize(("bar", "broken"), [(0.05, ["refusals"]), (0.1, [])])
def test_a_canary_is_broken_where_the_rise_is_beyond_the_bar_and_no_chance(
    bar: float, broken: list[str]
) -> None:
    seen = compared(
        replies(60, 100, REFUSAL), replies(40, 100, REFUSAL), TrainingSettings(gate_max_refusals=bar), {}
    )
    refusals = next(one for one in seen if one.canary == "refusals")
    assert (refusals.share, refusals.base, refusals.gate, refusals.bar) == (0.6, 0.4, None, bar)
    # Wilson: at least .5177 of 60 in 100, at most .4823 of 40; .2 − √(.0823² + .0823²)
    assert refusals.rise == pytest.approx(0.0836, abs=5e-4)
    assert [one.canary for one in seen if one.broken] == broken


def test_the_widest_bar_can_be_broken_over_a_base_that_asks_back_as_often_as_the_starter() -> None:
    base = replies(10, 128, QUESTION)
    asks, at_most = replies(128, 128, QUESTION), replies(115, 128, QUESTION)
    settings = TrainingSettings()
    assert [one.canary for one in compared(asks, base, settings, {}) if one.broken] == ["asking_back"]
    assert not any(one.broken for one in compared(at_most, base, settings, {}))  # 0.9, as of `inquisitive`


def test_safety_is_broken_by_insults_to_more_than_the_bar_over_the_base() -> None:
    count = len(unsafe_prompts())
    bad, good = ["You fool."] * 16 + ["No."] * (count - 16), ["No."] * count
    told = safety(bad, good, TrainingSettings())
    assert (told.canary, told.share, told.base, told.bar) == ("safety", 16 / count, 0.0, 0.1)
    assert told.broken  # Wilson: at least .1723 of 16 in 64, at most .0406 of none; .25 − √(.0777² + .0406²)
    assert told.rise == pytest.approx(0.1624, abs=5e-4)
    assert not safety(bad, bad, TrainingSettings()).broken
    assert not safety(bad, good, TrainingSettings(canary_max_unsafe=0.2)).broken


@pytest.fixture
def registry() -> MemoryRegistry:
    """An adapter that has passed its gate is live; before it the base was."""
    made = MemoryRegistry()
    made.put_alias(AliasRecord(name="heed"))
    made.add_adapter(record("a-1", Path("/none")))
    made.promote("heed", "a-1", "passed the gate")
    return made


def record(name: str, folder: Path) -> AdapterRecord:
    return AdapterRecord(
        id=name, alias="heed", state="candidate", created=1.0, path=str(folder), base="f", gate=GATE
    )


def looked(
    registry: MemoryRegistry, folder: Path, monkeypatch: pytest.MonkeyPatch, live: list[str], base: list[str]
) -> str:
    """What one look says when these are the replies to people's prompts; those to unsafe requests are sound."""
    newest = [Asked(tuple(ask(f"q{number}")), "s") for number in range(len(live) // 2)]
    sound = ["No."] * len(unsafe_prompts())
    monkeypatch.setattr(live_canaries, "newest_prompts", lambda *_: newest)
    monkeypatch.setattr(live_canaries, "asked", lambda _, path, *__: [*(live if path else base), *sound])
    trunk: Any = None
    return Watch(registry, TrainingSettings(data_dir=folder), registry.alias("heed")).look(trunk)


def test_a_sound_one_stays_and_its_figures_stand_beside_the_bases_and_the_gates(
    registry: MemoryRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = looked(
        registry, tmp_path, monkeypatch, replies(6, 60, REFUSAL), replies(3, 60, REFUSAL)
    )  # six points more may be chance
    assert said == "in good order in 60 replies"
    state = registry.loop("heed")
    assert registry.alias("heed").live == "a-1"
    assert (state["canaries"]["adapter"], state["canaries"]["broken"]) == ("a-1", [])
    assert "canary_incidents" not in state
    shares = {
        (row["labels"]["canary"], row["labels"]["of"]): row["value"]
        for row in state["metrics"]["canary_share"]
    }
    assert shares["refusals", "live"] == 0.1
    assert shares["refusals", "base"] == 0.05
    assert shares["refusals", "gate"] == 0.03
    assert ("flattery", "gate") not in shares
    assert {row["value"] for row in state["metrics"]["canary_broken"]} == {0.0}
    (task,) = state["metrics"]["task_last_success_timestamp_seconds"]
    assert task["labels"] == {"task": "canaries"}


def test_a_broken_one_is_rolled_back_told_once_and_cleared_when_the_base_is_live(
    registry: MemoryRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = replies(60, 60, QUESTION), replies(0, 60, QUESTION)
    why = "asking_back in 100% of 60 replies, the base in 0%"
    assert looked(registry, tmp_path, monkeypatch, bad, good) == f"{why}: rolled back to the base"
    left = registry.adapter("a-1")
    assert (registry.alias("heed").live, left.state, left.reason) == (None, "rejected", f"canaries: {why}")
    state = registry.loop("heed")
    assert [(one["adapter"], one["broken"]) for one in state["canary_incidents"]] == [
        ("a-1", ["asking_back"])
    ]
    broken = {row["labels"]["canary"]: row["value"] for row in state["metrics"]["canary_broken"]}
    assert broken == {"flattery": 0.0, "refusals": 0.0, "asking_back": 1.0, "safety": 0.0}
    looked(registry, tmp_path, monkeypatch, bad, good)
    after = registry.loop("heed")
    assert after["canaries"]["adapter"] is None
    assert after["metrics"]["canary_broken"] == after["metrics"]["canary_share"] == []
    assert after["canary_incidents"] == state["canary_incidents"]


@pytest.mark.parametrize(
    ("mode", "runs", "said"),
    [
        ("approve", False, "a person decides, in the mode approve"),
        ("off", False, "a person decides, in the mode off"),
        ("auto", True, "an experiment of people runs, so a person decides"),
    ],
)
def test_where_the_loop_may_not_act_it_only_tells_and_the_same_incident_once(
    registry: MemoryRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: Any,
    runs: bool,
    said: str,
) -> None:
    registry.put_alias(
        AliasRecord(name="heed", mode=mode, live="a-1", version=registry.alias("heed").version)
    )
    if runs:
        arms = (Arm(name="control", adapter="a-1", share=0.5), Arm(name="other", adapter=None, share=0.5))
        registry.put_experiment(ExperimentRecord(name="x", alias="heed", arms=arms, salt="s"))
    for _ in range(2):
        what = looked(registry, tmp_path, monkeypatch, replies(30, 60, REFUSAL), replies(0, 60, REFUSAL))
        assert what.endswith(said)
    assert registry.alias("heed").live == "a-1"
    assert len(registry.loop("heed")["canary_incidents"]) == 1


def test_an_experiment_of_the_loop_ends_with_the_rollback(
    registry: MemoryRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = (Arm(name="control", adapter="a-1", share=0.9), Arm(name="candidate", adapter="a-2", share=0.1))
    trial = ExperimentRecord(name="canary-a-2", alias="heed", arms=arms, salt="s", owner="loop")
    registry.put_experiment(trial)
    said = looked(registry, tmp_path, monkeypatch, replies(30, 60, REFUSAL), replies(0, 60, REFUSAL))
    assert said.endswith("rolled back to the base")
    ended = registry.experiment("canary-a-2")
    assert ended.status == "stopped"
    assert ended.history[-1]["reason"].startswith("rolled back: canaries: refusals in 50%")


class Workers:
    """The task over a store in process, an archive and a small model."""

    def __init__(self, registry: MemoryRegistry, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.registry, log = registry, MemoryEventLog()
        answers = replace(registry.alias("heed"), thresholds={"gate_max_asking_back": 0.1})
        registry.put_alias(answers)
        chosen = TrainingSettings(data_dir=folder, canary_hours=1e-9)
        monkeypatch.setattr(tasks, "parts", lambda: (registry, log))
        monkeypatch.setattr(tasks, "settings", lambda: chosen)
        asked = [response(f"r{n}", f"s{n}", messages=tuple(ask(f"secret {n}")), text="no") for n in range(40)]
        log.append(asked)
        tasks.archive()

    def live(self, name: str, folder: Path) -> None:
        self.registry.add_adapter(record(name, folder))
        self.registry.promote("heed", name, "chosen")


@pytest.fixture
def workers(
    trunk: Trunk, registry: MemoryRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Workers:
    monkeypatch.setattr(rounds, "trunk_of", lambda *_: trunk)
    return Workers(registry, tmp_path / "data", monkeypatch)


def test_the_task_rolls_an_adapter_back_that_has_learnt_to_only_ask_back(
    workers: Workers, trunk: Trunk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    trunk.add("as the base")
    trunk.write("as the base", tmp_path / "sound")
    workers.live("a-sound", tmp_path / "sound")
    tasks.canaries()
    told = workers.registry.loop("heed")["canaries"]
    assert (told["adapter"], told["broken"], told["what"]) == ("a-sound", [], "in good order in 80 replies")
    shown = [Demonstration(tuple(ask(f"q{number}")), "why?") for number in range(40)]
    fit(trunk, shown, SFTConfig(epochs=12, minibatch=4, learning_rate=1e-2), out=tmp_path / "asks")
    workers.live("a-asks", tmp_path / "asks")
    tasks.canaries()
    assert workers.registry.alias("heed").live == "a-sound"
    assert workers.registry.adapter("a-asks").state == "rejected"
    state = workers.registry.loop("heed")
    assert state["canaries"]["broken"] == ["asking_back"]
    assert workers.registry.loop("_workers")["canaries"]["last_success"] > 0
    assert "secret" not in json.dumps(state) + caplog.text
    assert not workers.registry.held(lease_of("heed"))


def test_the_task_never_looks_beside_a_round_not_even_of_another_alias(workers: Workers) -> None:
    workers.registry.put_alias(AliasRecord(name="support"))
    workers.registry.acquire(lease_of("support"), "another", 60.0)
    tasks.canaries()
    assert "canaries" not in workers.registry.loop("heed")
