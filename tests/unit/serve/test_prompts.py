"""Prompts for raters, out of the archive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from feedback.archive import Archive
from feedback.events import Event, Report, Response
from feedback.protocols import Entry
from serve.prompts import archived_prompts, without

USER = {"role": "user", "content": "hi"}


def response(number: int, **more: Any) -> Response:
    name = f"chatcmpl-{number}"
    messages = ({"role": "user", "content": str(number)},)
    made = {"alias": "heed", "adapter": "base", "arm": "live", "subject": "s-1", "messages": messages, **more}
    return Response(event_id=name, response_id=name, time=float(number), **made)


def test_the_newest_come_first_without_reported_compared_or_unstored_ones(tmp_path: Path) -> None:
    report = Report(
        event_id="ev-1",
        report_id="rp-1",
        response_id="chatcmpl-2",
        time=9.0,
        subject="s-1",
        report_kind="unsafe",
    )
    events: list[Event] = [response(1), response(2), response(3, comparison_id="cmpr-1")]
    events += [response(7, arm="annotation"), response(8, messages=())]
    events += [response(4, stored=False, messages=()), response(5, alias="other"), response(6), report]
    Archive(tmp_path).write([Entry(f"{number}-0", event) for number, event in enumerate(events, 1)])
    found = archived_prompts(tmp_path, "heed", "")
    assert [(one.messages[0]["content"], one.subject) for one in found] == [("6", "s-1"), ("1", "s-1")]


def test_of_a_large_archive_only_the_newest_segments_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for first in (1, 3, 5):
        entries = [Entry(f"{number}-0", response(number)) for number in (first, first + 1)]
        Archive(tmp_path).write(entries)
    monkeypatch.setattr(
        "serve.prompts.LOOKED_AT", 3
    )  # they begin in the second, whose own first is not counted
    found = archived_prompts(tmp_path, "heed", "")
    assert [one.messages[0]["content"] for one in found] == ["6", "5", "4"]


def test_guidelines_are_taken_off_again() -> None:
    both = ({"role": "system", "content": "Be kind.\n\nRhyme."}, USER)
    assert without("Be kind.", both) == ({"role": "system", "content": "Rhyme."}, USER)
    assert without("Be kind.", ({"role": "system", "content": "Be kind."}, USER)) == (USER,)
    assert without("Be kind.", (USER,)) == (USER,)
    assert without("", both) == both
