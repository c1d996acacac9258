"""Feedback as NDJSON in the forms trainers read (TRL's conversational ones), of what stands and may be used.

==============  =================================================================================
``preference``  ``{"prompt": [messages], "chosen": [{assistant}], "rejected": [{assistant}]}``: one line
                for each pair of a comparison that one side won, and for each correction of a reply
``binary``      ``{"prompt": [messages], "completion": [{assistant}], "label": bool}``: one line a thumb
``sft``         ``{"messages": [messages, {assistant}]}``: corrections, and replies that were liked
``events``      the events themselves, all of them, as they were logged
==============  =================================================================================

What stands and how it is joined is told in ``feedback.standing`` and ``feedback.joined``, and is what training reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias

import orjson

from feedback.archive import Archive
from feedback.errors import InvalidRecord
from feedback.events import Event, Message, encode
from feedback.joined import Events, Joined, Source, counting, joined, part

Format: TypeAlias = Literal["preference", "binary", "sft", "events"]
FORMATS = ("preference", "binary", "sft", "events")
PART = 100_000
"""Sayings whose texts are in memory at once."""


def export(
    events: Iterable[Event] | Archive, form: str, since: float | None = None, alias: str | None = None
) -> Iterator[bytes]:
    """One JSON line each, of what was said (for ``events``: of what happened) after ``since``, Unix seconds; oldest
    first.

    Given the archive itself only texts of ``PART`` sayings are held in memory. Raises InvalidRecord at once for an
    unknown ``form``.
    """
    if form not in FORMATS:
        raise InvalidRecord("format", f"{form!r} is not one of {', '.join(FORMATS)}")
    if form == "events":
        every = (entry.event for entry in events.events()) if isinstance(events, Archive) else events
        return _raw(every, since, alias)
    return _lines(events if isinstance(events, Archive) else Events(events), form, since, alias)


def _line(body: Any) -> bytes:
    return orjson.dumps(body) + b"\n"


def _raw(events: Iterable[Event], since: float | None, alias: str | None) -> Iterator[bytes]:
    for event in events:
        if (since is None or event.time > since) and alias in (None, event.alias):
            yield encode(event) + b"\n"


def _lines(source: Source, form: str, since: float | None, alias: str | None) -> Iterator[bytes]:
    found = counting(source, alias, since)
    for begin in range(0, found.said, PART):
        told = joined(source, part(found, begin, begin + PART))
        yield from _of_votes(form, told)
        if form == "preference":
            yield from _of_pairs(told)


def _says(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]


def _of_votes(form: str, told: Joined) -> Iterator[bytes]:
    replies = told.replies.take(told.votes.column("reply"))
    for rating, corrected, messages, text in _rows(
        told.votes.column("rating"),
        told.votes.column("correction"),
        replies.column("messages"),
        replies.column("text"),
    ):
        prompt = orjson.loads(messages)
        if form == "binary":
            yield _line({"prompt": prompt, "completion": _says(text), "label": rating == "up"})
        elif form == "preference" and corrected is not None:
            yield _line({"prompt": prompt, "chosen": _says(corrected), "rejected": _says(text)})
        elif form == "sft" and (corrected is not None or rating == "up"):
            yield _line({"messages": [*prompt, *_says(corrected or text)]})


def _of_pairs(told: Joined) -> Iterator[bytes]:
    best, worst = (told.replies.take(told.pairs.column(side)) for side in "ab")
    for rating, messages, chosen, rejected in _rows(
        told.pairs.column("rating"), best.column("messages"), best.column("text"), worst.column("text")
    ):
        if rating == "win":
            yield _line(
                {"prompt": orjson.loads(messages), "chosen": _says(chosen), "rejected": _says(rejected)}
            )


def _rows(*columns: Any) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in columns), strict=True)
