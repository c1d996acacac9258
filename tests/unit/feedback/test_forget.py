"""A wish to be forgotten, carried out store by store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from feedback.archive import Archive
from feedback.errors import InvalidRecord, StoreUnavailable
from feedback.forget import Stores, archived, carry_out, request
from feedback.memory import MemoryEventLog, MemoryRegistry
from feedback.protocols import Entry
from feedback.spool import Spool
from tests.contract.making import response, vote


class House:
    """All stores, with two subjects in each."""

    def __init__(self, folder: Path) -> None:
        self.log, self.registry = MemoryEventLog(), MemoryRegistry()
        self.archive, self.spool = Archive(folder / "archive"), Spool(folder / "spool")
        self.others: list[tuple[str, bool]] = []
        self.log.append([response("r1", "gone"), response("r2", "stays")])
        claimed = self.log.claim("w", 9)
        self.archive.write(claimed)
        self.log.ack([entry.position for entry in claimed])
        self.log.append([vote("r1", "up", 101.0, "gone"), vote("r2", "up", 101.0, "stays")])
        self.spool.append([response("r3", "gone"), response("r4", "stays")])

    def carry_out(self) -> list[dict[str, object]]:
        def drop(subject: str, clean: float) -> None:
            left = {entry.event.subject for entry in self.archive.events()}
            self.others.append((subject, subject not in left and clean <= time.time()))

        return carry_out(
            Stores(
                self.registry,
                self.log,
                self.archive,
                self.spool,
                {"batches": drop},
                learnt=lambda subject: ["a-1"] if subject == "gone" else [],
            )
        )

    def carry_out_all(self) -> list[dict[str, object]]:
        """As the schedule does: until nothing is left to do."""
        done = self.carry_out()
        while any(receipt["status"] == "pending" for receipt in self.registry.receipts()):
            done = self.carry_out()
        return done

    def names(self) -> set[str]:
        """Whoever is found anywhere."""
        found = {entry.event.subject for entry in self.archive.events()}
        self.spool.drain(self.log)
        return found | {entry.event.subject for entry in self.log.claim("w", 99, idle_seconds=0.0)}


def test_the_subject_is_gone_from_every_store(tmp_path: Path) -> None:
    house = House(tmp_path)
    receipt = request(house.registry, "gone", now=200.0)
    assert receipt["status"] == "pending"
    assert "subject" not in receipt
    done = house.carry_out_all()
    assert [one["id"] for one in done] == [receipt["id"]]
    kept = house.registry.receipt(receipt["id"])
    assert kept["status"] == "done"
    assert sorted(kept["stores"]) == ["archive", "batches", "journal", "log", "spool"]
    assert kept["adapters"] == ["a-1"]
    assert all(kept["stores"].values())
    assert "gone" not in str(kept)
    assert house.others == [("gone", True)]  # asked once the archive was clean
    assert house.names() == {"stays"}
    assert house.carry_out() == []


def test_while_a_worker_holds_claimed_events_the_archive_is_not_clean(tmp_path: Path) -> None:
    house = House(tmp_path)
    held = house.log.claim("slow", 9)
    receipt = request(house.registry, "gone", now=200.0)
    house.carry_out()
    middle = house.registry.receipt(receipt["id"])
    assert middle["status"] == "pending"
    assert middle["stores"]["spool"] is not None
    assert middle["stores"]["archive"] is None
    house.archive.write(held)
    house.log.ack([entry.position for entry in held])
    house.carry_out_all()
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
    house.carry_out_all()
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


def test_what_a_worker_claimed_before_the_wish_and_writes_after_it_is_left_out(tmp_path: Path) -> None:
    house = House(tmp_path)
    held = house.log.claim("slow", 9)
    request(house.registry, "gone", now=200.0)
    house.carry_out()
    before = {entry.event.event_id for entry in house.archive.events()}
    archived(house.log, house.archive, held)
    written = [entry.event for entry in house.archive.events() if entry.event.event_id not in before]
    assert {event.subject for event in written} == {"stays"}


def test_a_wish_that_comes_while_a_worker_writes_is_seen_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path)
    held = house.log.claim("slow", 9)
    write = house.archive.write

    def late(entries: Sequence[Entry]) -> object:
        house.log.forget("gone", 200.0)  # between the worker's first look and the end of its writing
        house.archive.forget("gone", 200.0)
        return write(entries)

    monkeypatch.setattr(house.archive, "write", late)
    archived(house.log, house.archive, held)
    assert {entry.event.subject for entry in house.archive.events()} == {"stays"}


def test_a_receipt_is_done_only_when_nobody_may_write_a_batch_any_more(tmp_path: Path) -> None:
    house = House(tmp_path)
    receipt = request(house.registry, "gone", now=200.0)
    busy = [True, True]

    def drop(subject: str, clean: float) -> bool:
        return not (busy and busy.pop())

    stores = Stores(house.registry, house.log, house.archive, others={"batches": drop})
    for _ in range(4):
        carry_out(stores)
        told = house.registry.receipt(receipt["id"])
        assert told["stores"]["batches"] or told["status"] == "pending"
    assert told["status"] == "done"
    assert busy == []


def test_responses_that_the_indexes_no_longer_list_are_forgotten_too(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.log._subjects["gone"].clear()  # type: ignore[attr-defined]
    request(house.registry, "gone", now=200.0)
    house.carry_out_all()
    assert house.log.response("r1") is None
    assert house.log.response("r2") is not None


def test_an_older_wish_takes_nothing_back_of_a_newer_one(tmp_path: Path) -> None:
    log = MemoryEventLog()
    log.forget("gone", 200.0)
    log.forget("gone", 100.0)
    assert log.forgotten(["gone", "stays"]) == {"gone": 200.0}


def test_a_prompt_that_raters_were_shown_goes_with_its_author(tmp_path: Path) -> None:
    house = House(tmp_path)
    copies = [
        response(f"copy{n}", "rater", author=who, time=300.0) for n, who in enumerate(("gone", "stays"))
    ]
    house.archive.write([Entry(f"{90 + n}-0", copy) for n, copy in enumerate(copies)])
    house.log.append([response("copy2", "rater", author="gone", time=300.0)])
    request(house.registry, "gone", now=200.0)
    house.carry_out_all()
    archived(house.log, house.archive, [Entry("95-0", response("copy3", "rater", author="gone", time=300.0))])
    kept = [entry.event for entry in house.archive.events()]
    kept += [entry.event for entry in house.log.claim("w", 99, idle_seconds=0.0)]
    assert "gone" not in str(kept)
    assert "copy1" in {event.event_id for event in kept}


def test_the_receipt_names_nobody_any_more_before_the_journal_is_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path)
    receipt = request(house.registry, "gone", now=200.0)
    held: list[str] = []

    def rewrite() -> bool:
        held.append(str(house.registry.receipts()))
        return len(held) > 1  # at first it is at it already

    monkeypatch.setattr(house.log, "rewrite", rewrite)
    house.carry_out_all()
    assert [("gone" in text, receipt["id"] in text) for text in held] == [(False, True)] * 2


def test_a_wish_that_cannot_be_carried_out_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(tmp_path)
    receipts = [request(house.registry, name, now=200.0)["id"] for name in ("gone", "stays")]
    forget = house.archive.forget

    def damaged(subject: str, before: float = 0.0) -> int:
        if subject == "gone":
            raise InvalidRecord("a segment", "is damaged")
        return forget(subject, before)

    monkeypatch.setattr(house.archive, "forget", damaged)
    for _ in range(4):
        with pytest.raises(InvalidRecord):
            house.carry_out()
    told = [house.registry.receipt(name) for name in receipts]
    assert [one["status"] for one in told] == ["pending", "done"]


def test_a_pass_whose_time_is_over_leaves_the_other_wishes_to_the_next(tmp_path: Path) -> None:
    house = House(tmp_path)
    for number in range(3):
        request(house.registry, f"stranger-{number}", now=200.0)
    stores = Stores(house.registry, house.log, house.archive)
    assert len(carry_out(stores, seconds=0.0)) == 1
    begun = [one for one in house.registry.receipts() if one["stores"]["archive"]]
    assert len(begun) == 1
    assert len(carry_out(stores)) == 3
    for _ in range(40):
        carry_out(stores, seconds=0.0)
    assert {one["status"] for one in house.registry.receipts()} == {"done"}
