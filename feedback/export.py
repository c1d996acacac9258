"""Feedback as NDJSON in the forms trainers read (TRL's conversational ones), of what stands and may be used.

==============  =================================================================================
``preference``  ``{"prompt": [messages], "chosen": [{assistant}], "rejected": [{assistant}]}``: one line
                for each pair of a comparison that one side won, and for each correction of a reply
``binary``      ``{"prompt": [messages], "completion": [{assistant}], "label": bool}``: one line a thumb
``sft``         ``{"messages": [messages, {assistant}]}``: corrections, and replies that were liked
``events``      the events themselves, all of them, as they were logged
==============  =================================================================================

Only standing votes count, only responses whose text is stored, none that is reported and not cleared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Literal, TypeAlias

import orjson

from feedback.archive import Archive
from feedback.errors import InvalidRecord
from feedback.events import Comparison, Event, Message, Report, Response, Vote, encode, kind_of

Format: TypeAlias = Literal["preference", "binary", "sft", "events"]
FORMATS = ("preference", "binary", "sft", "events")
_SAID = ("vote", "comparison", "report")


def export(
    events: Iterable[Event] | Archive, form: str, since: float | None = None, alias: str | None = None
) -> Iterator[bytes]:
    """One JSON line each, of what was said (for ``events``: of what happened) after ``since``, Unix seconds.

    Given the archive itself it is read twice, and only texts that are waited for are held in memory.
    Raises InvalidRecord at once for an unknown ``form``.
    """
    if form not in FORMATS:
        raise InvalidRecord("format", f"{form!r} is not one of {', '.join(FORMATS)}")
    source = events if isinstance(events, Archive) else list(events)
    if form == "events":
        return _raw(source, since, alias)
    return _lines(source, form, since, alias)


def _of(source: list[Event] | Archive, kinds: Collection[str] | None) -> Iterator[Event]:
    if isinstance(source, Archive):
        yield from (entry.event for entry in source.events(kinds=kinds))
    else:
        yield from (event for event in source if kinds is None or kind_of(event) in kinds)


def _line(body: Any) -> bytes:
    return orjson.dumps(body) + b"\n"


def _raw(source: list[Event] | Archive, since: float | None, alias: str | None) -> Iterator[bytes]:
    for event in _of(source, None):
        if (since is None or event.time > since) and alias in (None, event.alias):
            yield encode(event) + b"\n"


def standing(events: Iterable[Event]) -> tuple[list[Vote | Comparison], set[str]]:
    """The votes and comparisons that stand, and the ids of responses that are reported and not cleared."""
    said: dict[str, Vote | Comparison] = {}
    reports: dict[str, Report] = {}
    for event in events:
        if isinstance(event, Vote | Comparison):
            old = said.get(event.feedback_id)
            if old is None or event.time >= old.time:
                said[event.feedback_id] = event
        elif isinstance(event, Report):
            last = reports.get(event.report_id)
            if last is None or last.verdict is None or event.time >= last.time:
                reports[event.report_id] = event
    kept = [event for event in said.values() if isinstance(event, Comparison) or event.rating is not None]
    return kept, {report.response_id for report in reports.values() if report.verdict != "dismissed"}


def _lines(
    source: list[Event] | Archive, form: str, since: float | None, alias: str | None
) -> Iterator[bytes]:
    said, reported = standing(_of(source, _SAID))
    wanted: defaultdict[str, list[Vote | Comparison]] = defaultdict(list)
    for event in said:
        if since is None or event.time > since:
            for name in _names(event):
                wanted[name].append(event)
    texts: dict[str, Response] = {}  # of comparisons whose other responses are still to come
    for response in _of(source, ("response",)):
        if not isinstance(response, Response) or not _usable(response, reported, alias):
            continue
        for event in wanted.pop(response.response_id, ()):
            if isinstance(event, Vote):
                yield from _of_vote(form, response, event)
            elif form == "preference":
                texts[response.response_id] = response
                yield from _of_comparison(response, event, texts)


def _names(event: Vote | Comparison) -> list[str]:
    if isinstance(event, Vote):
        return [event.response_id]
    return [] if event.both_bad else [name for group in event.ranking for name in group]


def _usable(response: Response, reported: Collection[str], alias: str | None) -> bool:
    kept = response.stored and bool(response.messages) and bool(response.text)
    return kept and response.response_id not in reported and alias in (None, response.alias)


def _says(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]


def _of_vote(form: str, response: Response, vote: Vote) -> Iterator[bytes]:
    prompt, corrected = list(response.messages), vote.correction
    if corrected is not None and corrected.strip() in ("", response.text.strip()):
        corrected = None
    if form == "binary":
        yield _line({"prompt": prompt, "completion": _says(response.text), "label": vote.rating == "up"})
    elif form == "preference" and corrected is not None:
        yield _line({"prompt": prompt, "chosen": _says(corrected), "rejected": _says(response.text)})
    elif form == "sft" and (corrected is not None or vote.rating == "up"):
        yield _line({"messages": [*prompt, *_says(corrected or response.text)]})


def _of_comparison(new: Response, event: Comparison, texts: dict[str, Response]) -> Iterator[bytes]:
    """The pairs that ``new`` completes: it and those of other ranks that are known already."""
    place = {name: rank for rank, group in enumerate(event.ranking) for name in group}
    for name, rank in place.items():
        other = texts.get(name)
        if other is None or other is new or rank == place[new.response_id] or other.text == new.text:
            continue
        best, worst = (new, other) if place[new.response_id] < rank else (other, new)
        yield _line(
            {"prompt": list(best.messages), "chosen": _says(best.text), "rejected": _says(worst.text)}
        )
