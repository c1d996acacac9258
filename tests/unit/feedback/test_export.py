"""The lines of every export format, written out."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest

from feedback.archive import Archive
from feedback.errors import InvalidRecord
from feedback.events import Event, encode
from feedback.export import FORMATS, export
from feedback.protocols import Entry
from tests.contract.making import comparison, report, response, vote


def asked(name: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"asked {name}"}]


def says(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture(params=["iterator", "archive"])
def lines(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    folders = count()

    def of(form: str, *events: Event, **options: Any) -> list[Any]:
        source: Any = iter(events)
        if request.param == "archive":
            source = Archive(tmp_path / str(next(folders)))
            source.write([Entry(f"{n + 1}-0", event) for n, event in enumerate(events)])
        exported = list(export(source, form, **options))
        assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in exported)
        return [orjson.loads(line) for line in exported]

    return of


def test_a_thumb_is_a_binary_line(lines: Any) -> None:
    events = [response("r1"), response("r2", "s2"), vote("r1", "up", 2.0), vote("r2", "down", 2.0, "s2")]
    assert lines("binary", *events) == [
        {"prompt": asked("r1"), "completion": says("said r1"), "label": True},
        {"prompt": asked("r2"), "completion": says("said r2"), "label": False},
    ]


def replies(*names: str) -> list[Event]:
    """Replies to one prompt."""
    return [response(name, messages=tuple(asked("it"))) for name in names]


def test_a_won_comparison_is_a_preference_line(lines: Any) -> None:
    events = [*replies("a", "b"), comparison(("b",), ("a",))]
    assert lines("preference", *events) == [
        {"prompt": asked("it"), "chosen": says("said b"), "rejected": says("said a")}
    ]


def test_a_ranking_gives_a_line_for_each_pair_of_different_ranks(lines: Any) -> None:
    events = [*replies("a", "b", "c"), comparison(("b",), ("a", "c"))]
    pairs = [
        (line["chosen"][0]["content"], line["rejected"][0]["content"])
        for line in lines("preference", *events)
    ]
    assert pairs == [("said b", "said a"), ("said b", "said c")]


def test_ties_and_both_bad_prefer_nothing(lines: Any) -> None:
    events = replies("a", "b")
    assert lines("preference", *events, comparison(("a", "b"))) == []
    assert lines("preference", *events, comparison(("a", "b"), both_bad=True)) == []


def test_replies_to_different_prompts_are_no_preference(lines: Any) -> None:
    events = [response("a"), response("b"), comparison(("b",), ("a",))]
    assert lines("preference", *events) == []


def test_a_comparison_and_a_ranking_of_the_same_two_replies_are_one_line_the_newest(lines: Any) -> None:
    ranking = comparison(("a",), ("b",), ("c",), on="ranking", time=210.0)
    events = [*replies("a", "b", "c"), comparison(("b",), ("a",), time=205.0), ranking]
    told = [
        (line["chosen"][0]["content"], line["rejected"][0]["content"])
        for line in lines("preference", *events)
    ]
    assert told == [("said a", "said b"), ("said a", "said c"), ("said b", "said c")]
    late = comparison(("b",), ("a",), time=211.0)
    told = [
        (line["chosen"][0]["content"], line["rejected"][0]["content"])
        for line in lines("preference", *events, late)
    ]
    assert told == [("said a", "said c"), ("said b", "said c"), ("said b", "said a")]


def test_every_copy_of_a_reported_reply_is_left_out(lines: Any) -> None:
    copies = [response(name, "s2", text="vile", messages=tuple(asked("it"))) for name in ("c1", "c2")]
    other = response("c3", "s2", text="vile", messages=tuple(asked("something else")))
    votes = [vote(name, "up", 2.0, "s2") for name in ("c1", "c2", "c3")]
    events = [*copies, other, *votes, report("rp-1", "c1", 3.0, subject="s3")]
    assert [line["prompt"] for line in lines("binary", *events)] == [asked("something else")]
    cleared = report("rp-1", "c1", 4.0, verdict="dismissed")
    assert len(lines("binary", *events, cleared)) == 3


def test_a_vote_of_another_subject_than_the_replys_is_left_out(lines: Any) -> None:
    assert lines("binary", response("r1"), vote("r1", "up", 2.0, "s2")) == []


def test_much_is_exported_in_parts(lines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feedback.export.PART", 3)
    events = [event for n in range(10) for event in (response(f"r{n}"), vote(f"r{n}", "up", 20.0 - n))]
    assert [line["prompt"] for line in lines("binary", *events)] == [
        asked(f"r{n}") for n in reversed(range(10))
    ]


def test_a_correction_is_a_preference_over_the_reply_and_a_demonstration(lines: Any) -> None:
    events = [response("r1"), vote("r1", "down", 2.0, correction="better")]
    assert lines("preference", *events) == [
        {"prompt": asked("r1"), "chosen": says("better"), "rejected": says("said r1")}
    ]
    assert lines("sft", *events) == [{"messages": [*asked("r1"), *says("better")]}]


def test_a_liked_reply_is_a_demonstration_and_a_disliked_one_is_not(lines: Any) -> None:
    events = [response("r1"), vote("r1", "up", 2.0), response("r2", "s2"), vote("r2", "down", 2.0, "s2")]
    assert lines("sft", *events) == [{"messages": [*asked("r1"), *says("said r1")]}]
    assert lines("preference", *events) == []


def test_a_correction_that_says_the_same_is_none(lines: Any) -> None:
    events = [response("r1"), vote("r1", "down", 2.0, correction=" said r1\n")]
    assert lines("preference", *events) == lines("sft", *events) == []


def test_only_what_stands_is_exported_whatever_the_order(lines: Any) -> None:
    events = [vote("r1", "down", 3.0), response("r1"), vote("r1", "up", 2.0)]
    assert [line["label"] for line in lines("binary", *events)] == [False]
    assert lines("binary", *events, vote("r1", None, 4.0)) == []


@pytest.mark.parametrize("hidden", [{"stored": False}, {"text": ""}, {"messages": ()}])
def test_what_is_not_stored_is_not_exported(lines: Any, hidden: dict[str, Any]) -> None:
    assert lines("binary", response("r1", **hidden), vote("r1", "up", 2.0)) == []


def test_a_reported_response_is_left_out_until_the_report_is_dismissed(lines: Any) -> None:
    events = [response("r1"), vote("r1", "up", 2.0), report("rp-1", "r1", 3.0)]
    assert lines("binary", *events) == []
    assert lines("binary", *events, report("rp-1", "r1", 4.0, verdict="upheld")) == []
    assert len(lines("binary", *events, report("rp-1", "r1", 5.0, verdict="dismissed"))) == 1


def test_a_vote_on_an_unknown_response_is_left_out(lines: Any) -> None:
    assert lines("binary", vote("r9", "up", 2.0)) == []


def test_since_and_alias_choose_what_was_said(lines: Any) -> None:
    events = [
        response("r1"),
        vote("r1", "up", 2.0),
        response("r2", "s2", alias="support"),
        vote("r2", "up", 5.0, "s2"),
    ]
    assert [line["prompt"] for line in lines("binary", *events, since=2.0)] == [asked("r2")]
    assert [line["prompt"] for line in lines("binary", *events, alias="heed")] == [asked("r1")]


def test_events_are_given_as_they_were_logged(lines: Any) -> None:
    events = [response("r1", time=1.0), vote("r1", "up", 2.0), vote("r1", None, 3.0)]
    assert lines("events", *events) == [orjson.loads(encode(event)) for event in events]
    assert lines("events", *events, since=2.0) == [orjson.loads(encode(events[2]))]


def test_an_unknown_format_is_refused_before_anything_is_read() -> None:
    with pytest.raises(InvalidRecord, match="preference, binary, sft, events"):
        export([], "csv")
    assert [list(export([], form)) for form in FORMATS] == [[], [], [], []]
