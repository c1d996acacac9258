"""Prompts that people sent before, out of the archive, for raters to be asked about."""

from __future__ import annotations

from pathlib import Path

from feedback.archive import Archive
from feedback.events import Message, Report, Response

NEWEST = 500


def archived_prompts(folder: Path, alias: str, guidelines: str) -> list[tuple[Message, ...]]:
    """The alias's newest prompts of ordinary chats, newest first; none whose response is reported."""
    prompts: dict[str, tuple[Message, ...]] = {}
    for entry in Archive(folder).events():
        event = entry.event
        if isinstance(event, Response):
            if event.alias == alias and event.stored and event.messages and event.comparison_id is None:
                prompts[event.response_id] = event.messages
        elif isinstance(event, Report):
            prompts.pop(event.response_id, None)
    newest = list(prompts.values())[-NEWEST:][::-1]
    return [plain for plain in (without(guidelines, messages) for messages in newest) if plain]


def without(guidelines: str, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The prompt as the client sent it: the alias's guidelines were put before it and will be again."""
    first = messages[0]
    if not guidelines or first["role"] != "system" or not first["content"].startswith(guidelines):
        return messages
    own = first["content"].removeprefix(guidelines).lstrip("\n")
    return ({"role": "system", "content": own}, *messages[1:]) if own else messages[1:]
