"""Prompts that people sent before, out of the archive, for raters to be asked about."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from feedback.archive import Archive
from feedback.events import Message, Report, Response

NEWEST = 500
LOOKED_AT = 20_000  # events, the newest: however large the archive is, an answer does not wait for all of it
COPY = "annotation"  # the arm of what raters are shown again


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that raters may be asked about."""

    alias: str
    subject: str  # who asked it
    messages: tuple[Message, ...]  # without the alias's guidelines


def archived_prompts(place: Path | str, alias: str, guidelines: str) -> list[Prompt]:
    """The alias's newest prompts of ordinary chats, newest first, among the archive's newest events; none whose
    response is reported.
    """
    archive, prompts = Archive(place), {}
    for entry in archive.events(since_position=_recent(archive)):
        event = entry.event
        if isinstance(event, Response):
            usable = event.alias == alias and event.stored and event.messages and event.arm != COPY
            if usable and event.comparison_id is None:
                prompts[event.response_id] = Prompt(alias, event.subject, without(guidelines, event.messages))
        elif isinstance(event, Report):
            prompts.pop(event.response_id, None)
    return [prompt for prompt in list(prompts.values())[-NEWEST:][::-1] if prompt.messages]


def _recent(archive: Archive) -> str | None:
    """The first position of the segment in which the newest ``LOOKED_AT`` events begin; None where there are fewer."""
    left = LOOKED_AT
    for segment in reversed(archive.segments()):
        left -= segment.events
        if left <= 0:
            return segment.first
    return None


def texts_of(folder: Path | str, response_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Of those responses that are archived with their text: ``{"messages", "text"}`` by id."""
    if not response_ids:
        return {}
    wanted, found = pa.array(sorted(response_ids), pa.string()), {}
    for table in Archive(folder).tables(("response_id", "stored", "messages", "text"), ("response",)):
        for row in table.filter(pc.is_in(table.column("response_id"), wanted)).to_pylist():
            if row["stored"] and row["text"]:
                found[row["response_id"]] = {"messages": orjson.loads(row["messages"]), "text": row["text"]}
    return found


def without(guidelines: str, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The prompt as the client sent it: the alias's guidelines were put before it and will be again."""
    first = messages[0]
    if not guidelines or first["role"] != "system" or not first["content"].startswith(guidelines):
        return messages
    own = first["content"].removeprefix(guidelines).lstrip("\n")
    return ({"role": "system", "content": own}, *messages[1:]) if own else messages[1:]
