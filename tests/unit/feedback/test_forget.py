"""A wish to be forgotten, carried out store by store."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedback.archive import Archive
from feedback.errors import StoreUnavailable
from feedback.forget import carry_out, request
from feedback.memory import MemoryEventLog, MemoryRegistry
from feedback.spool import Spool
from tests.contract.making import response, vote


class House:
    """All stores, with two subjects in each."""

    def __init__(self, folder: Path) -> None:
        self.log, self.registry = MemoryEventLog(), MemoryRegistry()
        self.archive, self.spool = Archive(folder / "archive"), Spool(folder / "spool")
        self.others: list[tuple[str, float]] = []
        self.log.append([response("r1", "gone"), response("r2", "stays")])
        claimed = self.log.claim("w", 9)
        self.archive.write(claimed)
        self.log.ack([entry.position for entry in claimed])
        self.log.append([vote("r1", "up", 101.0, "gone"), vote("r2", "up", 101.0, "stays")])
        self.spool.append([response("r3", "gone"), response("r4", "stays")])

    def carry_out(self) -> list[dict[str, object]]:
        def drop(subject: str, before: float) -> None:
            self.others.append((subject, before))

        return carry_out(self.registry, self.log, self.archive, self.spool, {"batches": drop})

    def names(self) -> set[str]:
        """Whoever is found anywhere."""
        found = {entry.event.subject for entry in self.archive.events()}
        self.spool.drain(self.log)
        return found | {entry.event.subject for entry in self.log.claim("w", 99, idle_seconds=0.0)}


def test_after_one_pass_the_subject_is_gone_from_every_store(tmp_path: Path) -> None:
    house = House(tmp_path)
    receipt = request(house.registry, "gone", now=200.0)
    assert receipt["status"] == "pending"
    assert "subject" not in receipt
    done = house.carry_out()
    assert [one["id"] for one in done] == [receipt["id"]]
    kept = house.registry.receipt(receipt["id"])
    assert kept["status"] == "done"
    assert sorted(kept["stores"]) == ["archive", "batches", "log", "spool"]
    assert all(kept["stores"].values())
    assert "gone" not in str(kept)
    assert house.others == [("gone", 200.0)]
    assert house.names() == {"stays"}
    assert house.carry_out() == []


def test_while_a_worker_holds_claimed_events_the_archive_is_not_clean(tmp_path: Path) -> None:
    house = House(tmp_path)
    held = house.log.claim("slow", 9)
    receipt = request(house.registry, "gone", now=200.0)
    house.carry_out()
    middle = house.registry.receipt(receipt["id"])
    assert middle["status"] == "pending"
    assert middle["stores"]["log"] is not None
    assert middle["stores"]["archive"] is None
    house.archive.write(held)
    house.log.ack([entry.position for entry in held])
    house.carry_out()
    assert house.registry.receipt(receipt["id"])["status"] == "done"
    assert {entry.event.subject for entry in house.archive.events()} == {"stays"}


def test_a_pass_that_breaks_off_goes_on_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path)
    receipt = request(house.registry, "gone", now=200.0)

    def away(*_: object) -> int:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(house.archive, "forget", away)
        with pytest.raises(StoreUnavailable):
            house.carry_out()
    assert house.registry.receipt(receipt["id"])["status"] == "pending"
    house.carry_out()
    assert house.registry.receipt(receipt["id"])["status"] == "done"
    assert house.names() == {"stays"}


def test_an_event_still_on_its_way_does_not_come_back(tmp_path: Path) -> None:
    house = House(tmp_path)
    on_its_way = Spool(tmp_path / "another-host")
    on_its_way.append([response("r5", "gone", time=199.0), response("r6", "gone", time=201.0)])
    request(house.registry, "gone", now=200.0)
    house.carry_out()
    on_its_way.drain(house.log)
    ids = {entry.event.event_id for entry in house.log.claim("w", 99)}
    assert "r5" not in ids
    assert "r6" in ids
