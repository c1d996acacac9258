"""A round's search: what it holds, what people decided, and a batch that can be built again."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from feedback.archive import Archive
from feedback.events import Event, Response, Vote
from feedback.memory import MemoryRegistry
from feedback.protocols import Entry
from tests.unit.training.bursts.votes import Said
from training import quarantine
from training.batch_files import Batch, manifest_of, read
from training.batching import build, rebuild
from training.quarantine import Search, suspicious
from training.settings import TrainingSettings
from training.suspects import VOTES


def flooded() -> Said:
    """Ten people say a few things, and one of them a hundred within an hour."""
    said = Said()
    for n in range(60):
        said.thumb(f"s{n % 10}", n * 3600.0, n % 3 != 0)
    for n in range(100):
        said.thumb("s0", 1e6 + n * 31 + (n * n) % 17, False)
    return said


def test_a_reason_begins_with_its_kind_and_no_vote_but_the_burst_is_named() -> None:
    found = suspicious(flooded().table())
    assert set(found) == {f"ev-{n:05d}" for n in range(60, 160)}
    assert {why.partition(":")[0] for why in found.values()} == {"rate"}
    assert suspicious(pa.Table.from_pylist([], schema=VOTES)) == {}


def test_what_is_found_is_told_and_a_verdict_is_kept_by_later_rounds() -> None:
    registry, table = MemoryRegistry(), flooded().table()
    first = Search(registry, "heed")
    assert len(first.suspicious(table)) == 100
    assert registry.quarantined() == []
    first.tell()
    held = registry.quarantined("heed")
    assert len(held) == 100
    assert {(one.subject, one.kind, one.verdict) for one in held} == {("s0", "rate", None)}
    assert len({one.burst for one in held}) == 1
    registry.decide(held[0].burst, "released", 5.0)
    registry.decide(held[0].event_id, "confirmed", 6.0)
    again = Search(registry, "heed")
    assert len(again.released) == 99
    assert held[0].event_id not in again.released
    assert set(again.suspicious(table)) - again.released == {held[0].event_id}
    again.tell()
    assert [one.verdict for one in registry.quarantined()].count("confirmed") == 1


def test_what_was_confirmed_stays_out_when_it_is_no_longer_found_and_the_search_is_off() -> None:
    registry, table = MemoryRegistry(), flooded().table()
    search = Search(registry, "heed")
    search.suspicious(table)
    search.tell()
    registry.decide("ev-00060", "confirmed", 5.0)
    off = Search(registry, "heed", search=False)
    assert set(off.suspicious(table)) == {"ev-00060"}
    off.tell()
    assert [one.event_id for one in registry.quarantined()] == ["ev-00060"]


@pytest.fixture
def settings(tmp_path: Path) -> TrainingSettings:
    return TrainingSettings(data_dir=tmp_path, holdout_share=0.0)


def archived(folder: Path) -> Archive:
    events: list[Event] = []
    for number in range(6):
        name = f"chatcmpl-{number}"
        asked = ({"role": "user", "content": f"question {number}"},)
        events.append(
            Response(
                event_id=name,
                response_id=name,
                time=float(number),
                alias="heed",
                adapter="base",
                arm="live",
                subject="s-a",
                messages=asked,
                text="yes",
            )
        )
        events.append(
            Vote(
                event_id=f"ev-{number}",
                feedback_id=f"fb-{number}",
                response_id=name,
                time=10.0 + number,
                subject="s-a",
                rating="up",
            )
        )
    archive = Archive(folder)
    archive.write([Entry(f"{1000 + place}-0", event) for place, event in enumerate(events)])
    return archive


def test_a_batch_with_releases_is_built_again_after_a_crash_and_from_its_manifest(
    tmp_path: Path, settings: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "suspicious", lambda _: {"ev-1": "rate: much", "ev-2": "rate: much"})
    archive, registry = archived(tmp_path / "archive"), MemoryRegistry()

    def round_of() -> tuple[Search, Batch]:
        search = Search(registry, "heed")
        return search, build(
            archive, "heed", settings, None, votes_total=6,
            suspicious=search.suspicious, released=search.released,
        )  # fmt: skip

    _, lost = round_of()  # killed before it told anybody
    search, first = round_of()
    search.tell()
    assert first == lost
    assert {thumb.event_id for thumb in read(first).thumbs} == {"ev-0", "ev-3", "ev-4", "ev-5"}
    assert [one.event_id for one in registry.quarantined()] == ["ev-1", "ev-2"]
    registry.decide("ev-2", "released", 99.0)
    search, second = round_of()
    search.tell()
    assert {thumb.event_id for thumb in read(second).thumbs} == {"ev-0", "ev-2", "ev-3", "ev-4", "ev-5"}
    told = manifest_of(second.folder)
    assert (told["quarantined"], told["released"]) == ({"ev-1": "rate: much"}, ["ev-2"])
    monkeypatch.setattr(quarantine, "suspicious", lambda _: {})  # another version finds something else
    for batch in (first, second):
        assert rebuild(batch.folder, archive) == (batch.folder / "examples.parquet").read_bytes()
