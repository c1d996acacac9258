"""Whoever asks is told everything that is held, once, wherever it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from feedback.archive import Archive
from feedback.errors import StoreUnavailable
from feedback.memory import MemoryEventLog
from serve.holdings import holdings
from tests.contract.making import comparison, in_arm, label, report, response, vote


def told(log: MemoryEventLog, archive: Archive, subject: str = "s1") -> dict[str, Any]:
    body: dict[str, Any] = orjson.loads(b"".join(holdings(subject, log, archive)))
    return body


def test_prompts_replies_and_all_that_was_said_are_told_from_archive_and_log(tmp_path: Path) -> None:
    log, archive = MemoryEventLog(), Archive(tmp_path)
    log.append([response("r1", time=10.0), response("r9", "s2"), vote("r1", "down", 11.0, comment="no")])
    claimed = log.claim("w", 9)
    archive.write(claimed)  # and still in the log: it is not trimmed yet
    log.append(
        [
            in_arm("r2", "candidate", "s1", time=20.0),
            vote("r1", "up", 21.0, correction="better"),
            vote("r9", "up", 22.0, "s2"),
            comparison(("r1",), ("r2",), time=23.0),
            label("r1", {"tone": 1.0}, 24.0, "s1"),
            report("rp-1", "r2", 25.0, comment="rude"),
        ]
    )
    body = told(log, archive)
    assert (body["object"], body["subject"], body["since"]) == ("me", "s1", 10.0)
    first, second = body["responses"]
    assert (first["response_id"], first["text"], first["rating"], first["correction"]) == (
        "r1",
        "said r1",
        "up",
        "better",
    )
    assert first["messages"] == [{"role": "user", "content": "asked r1"}]
    assert (second["response_id"], second["rating"]) == ("r2", None)
    assert [(one["rating"], one["comment"]) for one in body["votes"]] == [("down", "no"), ("up", None)]
    assert [one["ranking"] for one in body["comparisons"]] == [[["r1"], ["r2"]]]
    assert [one["labels"] for one in body["labels"]] == [{"tone": 1.0}]
    assert [one["comment"] for one in body["reports"]] == ["rude"]
    assert body["assignments"] == [{"experiment": "exp", "arm": "candidate", "since": 20.0}]
    assert "s2" not in str(body)


def test_more_than_the_indexes_list_is_told(tmp_path: Path) -> None:
    log, archive = MemoryEventLog(), Archive(tmp_path)
    log.append([response(f"r{n}", time=float(n)) for n in range(1500)])
    archive.write(log.claim("w", 1500))
    assert [one["response_id"] for one in told(log, archive)["responses"]] == [f"r{n}" for n in range(1500)]


def test_of_a_vote_that_was_taken_back_the_saying_is_held_and_no_rating(tmp_path: Path) -> None:
    log = MemoryEventLog()
    log.append([response("r1"), vote("r1", "up", 101.0), vote("r1", None, 102.0)])
    body = told(log, Archive(tmp_path))
    assert body["responses"][0]["rating"] is None
    assert [one["rating"] for one in body["votes"]] == ["up", None]


def test_of_somebody_unknown_nothing_is_held(tmp_path: Path) -> None:
    body = told(MemoryEventLog(), Archive(tmp_path), "s-nobody")
    assert (body["responses"], body["votes"], body["since"]) == ([], [], None)


def test_a_store_that_is_away_is_told_before_the_first_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = MemoryEventLog()

    def away(_: str) -> list[object]:
        raise StoreUnavailable("away")

    monkeypatch.setattr(log, "unarchived", away)
    with pytest.raises(StoreUnavailable):
        holdings("s1", log, Archive(tmp_path))
