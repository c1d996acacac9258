from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy import import_file
from deploy.import_file import import_lines, lines_of, write_report
from deploy.imports import Origin, Skipped, events_of
from feedback.appended import Appended
from feedback.errors import InvalidRecord, StoreUnavailable
from feedback.events import Comparison, Event, Response, Vote, encode
from feedback.memory import MemoryEventLog

ORIGIN = Origin("heed", 1000.0)


def line(record: Any) -> bytes:
    return json.dumps(record).encode()


def read(form: str, *records: Any) -> list[list[Event] | Skipped]:
    return list(events_of([line(record) for record in records], form, ORIGIN))


def only(form: str, record: Any) -> list[Event]:
    (found,) = read(form, record)
    assert not isinstance(found, Skipped), found
    return found


def test_a_pair_becomes_two_responses_and_a_comparison_won_by_the_chosen() -> None:
    events = only("preference", {"prompt": "Hi?", "chosen": "Hello!", "rejected": "What."})
    first, second, said = events
    assert isinstance(first, Response)
    assert isinstance(second, Response)
    assert isinstance(said, Comparison)
    assert (first.text, second.text) == ("Hello!", "What.")
    assert first.messages == ({"role": "user", "content": "Hi?"},)
    assert said.ranking == ((first.response_id,), (second.response_id,))
    assert {first.subject, second.subject, said.subject} == {first.subject}
    assert (first.adapter, first.arm, first.alias, first.time) == ("imported", "imported", "heed", 1000.0)


def test_conversations_with_one_beginning_are_read_as_a_pair() -> None:
    start = [{"role": "user", "content": "Hi?"}]
    record = {
        "chosen": [*start, {"role": "assistant", "content": "Hello!"}],
        "rejected": [*start, {"role": "assistant", "content": "What."}],
    }
    plain = only("preference", {"prompt": "Hi?", "chosen": "Hello!", "rejected": "What."})
    assert only("preference", record) == plain


def test_a_label_becomes_a_thumb() -> None:
    for label, rating in ((True, "up"), (False, "down"), (1, "up"), (0, "down")):
        response, vote = only("binary", {"prompt": "Hi?", "completion": "Hello!", "label": label})
        assert isinstance(response, Response)
        assert isinstance(vote, Vote)
        assert (vote.rating, vote.response_id) == (rating, response.response_id)


def test_a_demonstration_becomes_a_correction() -> None:
    record = {"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello!"}]}
    response, vote = only("sft", record)
    assert isinstance(vote, Vote)
    assert (vote.rating, vote.correction) == ("up", "Hello!")
    assert only("sft", {"prompt": "Hi?", "completion": "Hello!"}) == [response, vote]


@pytest.mark.parametrize(
    ("form", "record", "field"),
    [
        ("preference", {"prompt": "Hi?", "chosen": "a"}, "rejected"),
        ("preference", {"prompt": "Hi?", "chosen": "a", "rejected": "a"}, "rejected"),
        ("preference", {"prompt": "", "chosen": "a", "rejected": "b"}, "prompt"),
        ("preference", {"chosen": "a", "rejected": "b"}, "chosen"),
        ("binary", {"prompt": "Hi?", "completion": "a", "label": "yes"}, "label"),
        ("binary", {"prompt": "Hi?", "label": True}, "completion"),
        ("sft", {"messages": [{"role": "user", "content": "Hi?"}]}, "messages"),
        ("sft", {"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ("sft", [1], "line"),
    ],
)
def test_a_line_that_cannot_be_read_is_skipped_with_its_number_and_field(
    form: str, record: Any, field: str
) -> None:
    good = {"prompt": "Hi?", "completion": "a", "label": True, "chosen": "a", "rejected": "b"}
    found = read(form, good, record)
    assert isinstance(found[0], list)
    assert isinstance(found[1], Skipped)
    assert found[1].line == 2
    assert found[1].why.startswith(field)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InvalidRecord, match="preference, binary, sft, oasst"):
        read("csv", {})


def test_raters_are_told_apart_and_never_named() -> None:
    base = {"prompt": "Hi?", "completion": "a", "label": True}
    first, second, nobody = (
        only("binary", base | more)[1] for more in ({"user": "ann"}, {"user": "bob"}, {})
    )
    subjects = {event.subject for event in (first, second, nobody) if isinstance(event, Vote)}
    assert len(subjects) == 3
    assert not any("ann" in subject or "bob" in subject for subject in subjects)


def test_a_file_that_is_imported_twice_counts_once() -> None:
    log = MemoryEventLog()
    lines = [line({"prompt": f"Hi {n}?", "completion": "a", "label": True}) for n in range(450)] + [
        b"nonsense"
    ]
    first = import_lines(lines, "binary", ORIGIN, log)
    assert (first.records, first.responses, first.votes, first.repeats) == (450, 450, 450, 0)
    assert [skipped.line for skipped in first.skipped] == [451]
    again = import_lines(lines, "binary", Origin("heed", 2000.0), log)
    assert (again.responses, again.votes, again.repeats) == (0, 0, 900)


def test_lines_are_read_from_gzip_too(tmp_path: Path) -> None:
    plain, zipped = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
    plain.write_bytes(b"1\n2\n")
    zipped.write_bytes(gzip.compress(b"1\n2\n"))
    assert list(lines_of(plain)) == list(lines_of(zipped)) == [b"1\n", b"2\n"]
    with pytest.raises(InvalidRecord, match="cannot be read"):
        list(lines_of(tmp_path / "none"))


class DyingLog(MemoryEventLog):
    """A log whose importer is killed when it has written for the third time, before it hears so."""

    writes = 0

    def append(self, events: Sequence[Event]) -> list[Appended]:
        done = super().append(events)
        self.writes += 1
        if self.writes == 3:
            raise StoreUnavailable("killed")
        return done


def test_an_import_that_was_killed_is_begun_again_and_nothing_counts_twice() -> None:
    lines = [line({"prompt": f"Hi {n}?", "chosen": "a", "rejected": "b"}) for n in range(1000)]
    whole, log = MemoryEventLog(), DyingLog()
    import_lines(lines, "preference", ORIGIN, whole)
    with pytest.raises(StoreUnavailable):
        import_lines(lines, "preference", ORIGIN, log)
    again = import_lines(lines, "preference", ORIGIN, log)
    assert (again.comparisons, again.responses, again.repeats) == (400, 800, 1800)
    first, second = ([encode(entry.event) for entry in one.claim("c", 9999)] for one in (whole, log))
    assert len(second) == 3000
    assert sorted(second) == sorted(first)


def test_a_line_that_is_too_long_or_no_text_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_file, "LINE_BYTES", 1000)
    good = line({"prompt": "Hi?", "completion": "a", "label": True})
    long = line({"prompt": "x" * 5000, "completion": "a", "label": True})
    exact = good + b" " * (1000 - len(good))  # as long as may be, at the end of the file
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\n".join([good, long, b'{"prompt": "\xff\xfe"}', b'"\\ud800"', b"[" * 900, exact]))
    report = import_lines(lines_of(file), "binary", ORIGIN, MemoryEventLog())
    assert (report.records, report.votes, report.repeats) == (2, 1, 2)
    assert [skipped.line for skipped in report.skipped] == [2, 3, 4, 5]
    assert report.skipped[0].why == "line: is too long to be read"
    assert all(skipped.why.startswith("line: is not JSON") for skipped in report.skipped[1:])


def test_a_report_tells_every_line_and_groups_the_reasons(tmp_path: Path) -> None:
    lines = [b"x", line({"prompt": "Hi?", "completion": "a", "label": True}), b"[]", b"[]"]
    report = import_lines(lines, "binary", ORIGIN, MemoryEventLog())
    write_report(report, tmp_path / "told.json")
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["skipped"][1:] == [{"line": n, "why": "line: is not a JSON object"} for n in (3, 4)]
    assert {name: told[name] for name in ("records", "responses", "votes", "comparisons", "labels", "repeats")} == {
        "records": 1, "responses": 1, "votes": 1, "comparisons": 0, "labels": 0, "repeats": 0
    }  # fmt: skip
    assert report.reasons()[0] == ("line: is not a JSON object", 2)
    with pytest.raises(InvalidRecord, match="cannot be written"):
        write_report(report, tmp_path / "none" / "told.json")
