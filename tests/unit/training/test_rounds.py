"""A round whose batch holds somebody who asks to be forgotten meanwhile."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from feedback.archive import Archive
from feedback.forget import archived
from feedback.lineage import learnt
from feedback.memory import MemoryEventLog, MemoryRegistry
from feedback.protocols import AdapterRecord, AliasRecord
from tests.contract.making import response, vote
from training import rounds
from training.rounds import Round
from training.settings import TrainingSettings


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
