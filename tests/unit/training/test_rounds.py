"""Rounds: whoever asks to be forgotten meanwhile, a damaged batch, wishes that come late, nothing to practise on."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from feedback.archive import Archive
from feedback.forget import archived
from feedback.lineage import learnt
from feedback.memory import MemoryEventLog, MemoryRegistry
from feedback.memory_rating import MemoryRatingQueue
from feedback.protocols import AdapterRecord, AliasRecord
from tests.contract.making import adapter, report, response, vote
from training import rounds
from training.rounds import Round
from training.settings import TrainingSettings

TOO_LITTLE = SimpleNamespace(adapter=None, verdict=SimpleNamespace(reason="too little"))


def os_exit() -> None:
    """As a signal ends the process."""
    raise KeyboardInterrupt


class House:
    """One alias with votes on a few prompts."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.settings = TrainingSettings(data_dir=folder)
        self.registry, self.log, self._patch = MemoryRegistry(), MemoryEventLog(), patch
        self.alias = self.registry.put_alias(AliasRecord(name="heed"))
        self.asked = [({"role": "user", "content": f"question {number}"},) for number in range(8)]
        self._cast = 0
        self.vote(40)

    def vote(self, count: int) -> None:
        """So many more."""
        for number in range(self._cast, self._cast + count):
            name, who = f"r{number}", f"s{number}"
            asked = self.asked[number % len(self.asked)]
            self.log.append([response(name, who, messages=asked), vote(name, "up", 200.0, who)])
        self._cast += count
        self.archived()

    def archived(self) -> None:
        entries = self.log.claim("w", 999)
        archived(self.log, Archive(self.settings.archive_place), entries)
        self.log.ack([entry.position for entry in entries])

    def round(self, learner: Callable[..., Any] | None) -> Round:
        """A round in which the ``learner`` stands for all that is computed; None: what is there."""
        token = self.registry.acquire("round:heed", "w", 60.0)
        assert token is not None
        if learner is not None:
            hears = "watcher" in inspect.signature(learner).parameters
            self._patch.setattr(
                rounds,
                "learn",
                lambda *told, **more: learner(*told, **({"watcher": more["watcher"]} if hears else {})),
            )
        self._patch.setattr(rounds, "trunk_of", functools.cache(lambda *_: None))
        return Round(self.registry, self.log, self.settings, self.alias, token)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return House(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("processes", "learner", "voted"), [(1, "learn", True), (2, "learn_together", True), (1, "learn", False)]
)
def test_it_ends_and_is_begun_anew_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int, learner: str, voted: bool
) -> None:
    settings = TrainingSettings(data_dir=tmp_path, training_processes=processes)
    registry, log = MemoryRegistry(), MemoryEventLog()
    alias = registry.put_alias(AliasRecord(name="heed"))
    archive = Archive(settings.archive_place)
    for who in ("s-goes", "s-stays"):
        log.append([response(f"r-{who}", who)])
        if voted or who == "s-stays":  # who did not vote has asked, and PPO practises on what was asked
            log.append([vote(f"r-{who}", "up", 200.0, who)])
    entries = log.claim("w", 9)
    archived(log, archive, entries)
    log.ack([entry.position for entry in entries])
    token = registry.acquire("round:heed", "w", 60.0)
    assert token is not None
    asked = iter([lambda: log.forget("s-goes", 4e9), lambda: None])
    seen: list[int] = []

    def learn(*told: Any, watcher: Any, **_: object) -> SimpleNamespace:
        examples = told[-3]  # after the trunk, where the worker itself learns
        seen.append(len(examples.prompts))
        next(asked)()
        watcher.should_stop()
        return SimpleNamespace(adapter=None, verdict=SimpleNamespace(reason="too little"))

    monkeypatch.setattr(rounds, learner, learn)
    monkeypatch.setattr(rounds, "trunk_of", functools.cache(lambda *_: None))
    first = Round(registry, log, settings, alias, token).run()
    assert (first.verdict, seen) == ("failed", [2])
    assert not list(settings.batches_dir.glob("*/*"))
    batch = registry.loop("heed")["last_batch"]["id"]
    registry.add_adapter(
        AdapterRecord(
            id="a-1", alias="heed", state="retired", created=1.0, path="p", base="b", batches=(batch,)
        )
    )
    assert learnt(settings.lineage_dir, registry, "s-goes") == ["a-1"]
    assert learnt(settings.lineage_dir, registry, "s-other") == []
    archive.forget("s-goes")
    second = Round(registry, log, settings, alias, token).run()
    assert (second.verdict, seen[1]) == ("nothing", 1)


def test_a_damaged_batch_of_a_round_that_was_killed_is_made_anew(house: House) -> None:
    first = house.round(lambda *_: os_exit())
    with pytest.raises(KeyboardInterrupt):
        first.run()
    [examples] = house.settings.batches_dir.glob("heed/*/examples.parquet")
    examples.write_bytes(examples.read_bytes()[:100])
    assert house.round(lambda *_: TOO_LITTLE).run().verdict == "nothing"


def test_a_wish_for_a_round_that_comes_while_its_batch_is_read_is_for_the_next(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = rounds.build
    house.registry.set_loop("heed", {"train_requested": 1.0})

    def build(*told: Any, **more: Any) -> Any:
        made = plain(*told, **more)
        if house.registry.loop("heed")["train_requested"] == 1.0:
            house.registry.set_loop("heed", {"train_requested": 2.0})
        return made

    monkeypatch.setattr(rounds, "build", build)
    asked = []
    for _ in range(2):
        house.round(lambda *_: TOO_LITTLE).run()
        asked.append(house.registry.loop("heed")["train_requested"])
    assert asked == [2.0, None]


def test_where_every_prompt_has_a_reported_reply_there_is_nothing_to_learn(house: House) -> None:
    for number, asked in enumerate(house.asked):
        bad = f"r-bad-{number}"
        house.log.append([response(bad, "s-other", messages=asked), report(f"rp-{number}", bad)])
    house.archived()
    told = house.round(None).run()
    assert (told.verdict, "reported" in told.reason) == ("nothing", True)


def test_what_is_served_is_found_in_a_data_directory_that_was_moved(house: House) -> None:
    registry = house.registry
    registry.add_adapter(adapter("a-1", path="/where/it/was/adapters/a-1"))
    registry.promote("heed", "a-1", "tried")
    seen: list[Path] = []

    def learner(_trunk: None, _examples: object, served: Path, *_: object) -> SimpleNamespace:
        seen.append(served)
        return TOO_LITTLE

    house.round(learner).run()
    assert seen == [house.settings.adapters_dir / "a-1"]


@pytest.mark.parametrize(
    ("share", "new", "begun"),
    [(1.0, 50, [40, 90]), (1.0, 49, [40]), (2.0, 79, [40]), (2.0, 80, [40, 120]), (0.0, 400, [40])],
)
def test_a_round_whose_votes_have_doubled_is_begun_anew_with_all_of_them(
    house: House, share: float, new: int, begun: list[int]
) -> None:
    """40 votes at first, and 50 new ones are the least that start a round."""
    house.settings = house.settings.model_copy(update={"round_overtaken": share})
    seen: list[int] = []

    def learner(_trunk: None, examples: Any, *_: object, watcher: Any) -> SimpleNamespace:
        seen.append(len(examples.thumbs))
        if len(seen) == 1:
            house.vote(new)
        watcher.should_stop()
        return TOO_LITTLE

    ended = house.round(learner).run()
    assert (ended.verdict, seen) == ("nothing", begun)
    told = house.registry.loop("heed")
    assert (told["taken_votes"], told["unfinished"], len(told["history"])) == (begun[-1], None, 1)
    assert told["last_batch"]["votes"] == begun[-1]


def test_votes_that_change_no_batch_leave_no_round_running_in_circles(house: House) -> None:
    """They are about replies that are reported: the batch made anew is the same one."""
    seen: list[Any] = []

    def learner(_trunk: None, examples: Any, *_: object, watcher: Any) -> SimpleNamespace:
        seen.append(len(examples.thumbs))
        if len(seen) == 1:
            for number in range(80):
                bad = f"bad{number}"
                said = (
                    response(bad, "s-other"),
                    report(f"rp-{number}", bad),
                    vote(bad, "up", 300.0, "s-other"),
                )
                house.log.append(list(said))
            house.archived()
        watcher.should_stop()
        return TOO_LITTLE

    assert (house.round(learner).run().verdict, seen) == ("nothing", [40, 40])


@pytest.mark.parametrize(("new", "asked"), [(49, 1), (50, 0)])
def test_raters_are_not_asked_anew_where_the_next_round_is_due(
    house: House, monkeypatch: pytest.MonkeyPatch, new: int, asked: int
) -> None:
    """50 votes start one, and what raters are asked takes long to choose."""
    calls: list[str] = []
    monkeypatch.setattr(rounds, "ask_raters", lambda _queue, _archive, alias, *_: calls.append(alias) or 0)
    monkeypatch.setattr(rounds.RewardModel, "load", lambda *_: None)

    def learner(*_: object) -> SimpleNamespace:
        [folder] = house.settings.batches_dir.glob("heed/*")
        kept = house.settings.reward_models_dir / "heed" / folder.name / rounds.FILE
        kept.parent.mkdir(parents=True)
        kept.touch()
        house.vote(new)
        return TOO_LITTLE

    due = house.round(learner)
    due.rating = MemoryRatingQueue()
    due.run()
    assert len(calls) == asked
