"""Feedback that a team has already, as events: preference pairs, thumbs, demonstrations, message trees.

==============  ====================================================================================
format          one line of the file
==============  ====================================================================================
``preference``  ``prompt``, ``chosen``, ``rejected``; or the last two as conversations that begin alike
``binary``      ``prompt``, ``completion``, ``label`` (true: liked)
``sft``         ``messages`` that end with the assistant's, or ``prompt`` and ``completion``
``oasst``       an Open-Assistant message tree, or one message of a tree a line (see ``oasst.py``)
==============  ====================================================================================

``prompt``, ``chosen``, ``rejected`` and ``completion`` are texts or lists of messages, as trainers have them.
An optional ``user`` names the rater. Ids are made from the content, so importing a file twice adds nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import orjson

from feedback.errors import InvalidRecord
from feedback.events import Comparison, Event, Message, Response, Vote

Format: TypeAlias = Literal["preference", "binary", "sft", "oasst"]
TOO_LONG = b"\0too long"  # stands for a line that was too long to be held in memory
IMPORTED = "imported"  # the adapter and the arm that imported responses are logged with
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Skipped:
    """A line that was left out, or something in it."""

    line: int  # from 1
    why: str


@dataclass(frozen=True)
class Origin:
    """What imported events have in common."""

    alias: str
    now: float  # Unix seconds, the time given to the events


def events_of(lines: Iterable[bytes], form: str, origin: Origin) -> Iterator[list[Event] | Skipped]:
    """The events of each line, or why it was skipped; empty lines are passed over in silence.

    Responses come before what is said about them. Raises InvalidRecord for an unknown format.
    """
    if form not in READERS:
        raise InvalidRecord("--format", f"{form!r} is not one of {', '.join([*READERS, 'oasst'])}")
    read = READERS[form]
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield read(parsed(line), origin)
        except InvalidRecord as error:
            yield Skipped(number, str(error))


def parsed(line: bytes) -> dict[str, Any]:
    """One JSON object. Raises InvalidRecord."""
    if line == TOO_LONG:
        raise InvalidRecord("line", "is too long to be read")
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InvalidRecord("line", f"is not JSON ({error})") from error
    if not isinstance(record, dict):
        raise InvalidRecord("line", "is not a JSON object")
    return record


def preference(record: Mapping[str, Any], origin: Origin) -> list[Event]:
    """Two responses and a comparison."""
    chosen, rejected = record.get("chosen"), record.get("rejected")
    if "prompt" in record:
        prompt = conversation(record["prompt"], "prompt", "user")
        texts = reply(chosen, "chosen"), reply(rejected, "rejected")
    else:
        prompt, first = split_last(conversation(chosen, "chosen", "assistant"), "chosen")
        other, second = split_last(conversation(rejected, "rejected", "assistant"), "rejected")
        if prompt != other:
            raise InvalidRecord("rejected", "does not begin with the same conversation as chosen")
        texts = first, second
    if texts[0] == texts[1]:
        raise InvalidRecord("rejected", "is the same text as chosen")
    return ranked(prompt, [[texts[0]], [texts[1]]], rater(record), origin)


def binary(record: Mapping[str, Any], origin: Origin) -> list[Event]:
    """A response and a thumb."""
    label = record.get("label")
    if not isinstance(label, bool) and label not in (0, 1):
        raise InvalidRecord("label", f"is {label!r}, not true or false")
    prompt = conversation(record.get("prompt"), "prompt", "user")
    said = response(prompt, reply(record.get("completion"), "completion"), rater(record), origin)
    return [said, vote(said, bool(label), origin)]


def sft(record: Mapping[str, Any], origin: Origin) -> list[Event]:
    """A response, and a vote whose correction says the same: what should be said."""
    if "messages" in record:
        prompt, text = split_last(conversation(record["messages"], "messages", "assistant"), "messages")
    else:
        prompt = conversation(record.get("prompt"), "prompt", "user")
        text = reply(record.get("completion"), "completion")
    said = response(prompt, text, rater(record), origin)
    return [said, vote(said, True, origin, correction=text)]


READERS: Mapping[str, Callable[[Mapping[str, Any], Origin], list[Event]]] = {
    "preference": preference,
    "binary": binary,
    "sft": sft,
}


def conversation(value: Any, field: str, last: str) -> tuple[Message, ...]:
    """A text or list of messages as messages that end with the role ``last``. Raises InvalidRecord."""
    if isinstance(value, str):
        value = [{"role": last, "content": value}]
    if not isinstance(value, list) or not value:
        raise InvalidRecord(field, "is neither a text nor a list of messages")
    messages = tuple(message(item, field) for item in value)
    if messages[-1]["role"] != last:
        raise InvalidRecord(field, f"does not end with a message of the {last}")
    return messages


def message(value: Any, field: str) -> Message:
    """One message with a known role and some text. Raises InvalidRecord."""
    if not isinstance(value, dict) or value.get("role") not in ROLES:
        raise InvalidRecord(field, f"has a message whose role is not one of {', '.join(ROLES)}")
    content = value.get("content")
    if not isinstance(content, str) or not content.strip():
        raise InvalidRecord(field, f"has a message of the {value['role']} without text")
    return {"role": value["role"], "content": content}


def reply(value: Any, field: str) -> str:
    """The one assistant message of ``value``. Raises InvalidRecord."""
    return conversation(value, field, "assistant")[-1]["content"]


def split_last(messages: tuple[Message, ...], field: str) -> tuple[tuple[Message, ...], str]:
    """The prompt and the assistant's last text. Raises InvalidRecord when there is no prompt."""
    if len(messages) < 2:
        raise InvalidRecord(field, "has no message before the assistant's")
    return messages[:-1], messages[-1]["content"]


def rater(record: Mapping[str, Any]) -> str | None:
    """Who judged, when the line tells."""
    user = record.get("user")
    return user if isinstance(user, str) and user else None


def digest(*parts: Any) -> str:
    """A name for content: 24 hex digits."""
    return hashlib.sha256(orjson.dumps(parts)).hexdigest()[:24]


def subject(prompt: Sequence[Message], who: str | None) -> str:
    """A pseudonym: of the rater, or, when nobody is named, of the prompt. Never the name itself."""
    return f"import-{digest('rater', who) if who else digest('prompt', prompt)}"


def response(prompt: Sequence[Message], text: str, who: str | None, origin: Origin) -> Response:
    """An imported answer."""
    name = f"chatcmpl-import-{digest(origin.alias, prompt, text)}"
    return Response(
        event_id=name,
        response_id=name,
        time=origin.now,
        alias=origin.alias,
        adapter=IMPORTED,
        arm=IMPORTED,
        subject=subject(prompt, who),
        messages=tuple(prompt),
        text=text,
        finish_reason="stop",
    )


def vote(on: Response, up: bool, origin: Origin, correction: str | None = None) -> Vote:
    """A thumb on an imported answer."""
    key = digest(on.response_id, on.subject, up, correction)
    return Vote(
        event_id=f"ev-import-{key}",
        feedback_id=f"fb-import-{digest(on.response_id, on.subject)}",
        response_id=on.response_id,
        time=origin.now,
        subject=on.subject,
        rating="up" if up else "down",
        alias=origin.alias,
        correction=correction,
    )


def ranked(
    prompt: Sequence[Message], groups: Sequence[Sequence[str]], who: str | None, origin: Origin
) -> list[Event]:
    """Answers to one prompt in ranked groups, best first, as responses and a comparison."""
    answers = [[response(prompt, text, who, origin) for text in group] for group in groups]
    ranking = tuple(tuple(answer.response_id for answer in group) for group in answers)
    key = digest(ranking, subject(prompt, who))
    said = Comparison(
        event_id=f"ev-import-{key}",
        feedback_id=f"fb-import-{key}",
        time=origin.now,
        subject=subject(prompt, who),
        ranking=ranking,
        alias=origin.alias,
    )
    return [*(answer for group in answers for answer in group), said]
