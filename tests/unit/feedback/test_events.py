"""Events on the wire."""

from __future__ import annotations

import orjson
import pytest

from feedback.errors import InvalidRecord
from feedback.events import Event, decode, encode, kind_of
from feedback.facts import said
from tests.contract.making import comparison, in_arm, label, report, response, vote


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (in_arm("r1", "control", "s1", sampling={"top_p": 0.5}, side=1), "response"),
        (vote("r1", None, 2.0), "vote"),
        (vote("r1", "up", 2.0, reasons=("a", "b"), comment="\u2028", correction=""), "vote"),
        (comparison(("a", "b"), ("c",), both_bad=True), "comparison"),
        (label("r1", {"tone": 0.5}, 1.0), "label"),
        (report("rp-1", "r1"), "report"),
    ],
)
def test_an_event_reads_as_it_was_written(event: Event, kind: str) -> None:
    assert decode(encode(event)) == event
    assert kind_of(event) == orjson.loads(encode(event))["kind"] == kind


def test_a_vote_taken_back_says_so_and_other_absences_are_left_out() -> None:
    body = orjson.loads(encode(vote("r1", None, 2.0)))
    assert body["rating"] is None
    assert "comment" not in body
    assert "alias" not in body


def test_a_newer_writers_fields_are_ignored() -> None:
    body = orjson.loads(encode(response("r1")))
    assert decode(orjson.dumps({**body, "new_field": 1})) == response("r1")


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"{torn", "event"),
        (b"[]", "kind"),
        (b'{"kind": "other"}', "kind"),
        (b'{"kind": "vote"}', "vote"),
        (b'{"kind": "vote", "time": null}', "time"),
        (b'{"kind": "vote", "subject": 5}', "subject"),
    ],
)
def test_what_is_no_event_is_refused_by_field(data: bytes, field: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        decode(data)
    assert caught.value.field == field


def test_the_order_within_a_tied_group_is_not_content() -> None:
    assert said(comparison(("a", "b"))) == said(comparison(("b", "a")))
    assert said(comparison(("a",), ("b",))) != said(comparison(("b",), ("a",)))
