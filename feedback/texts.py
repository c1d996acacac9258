"""The texts of events: which have any, whose they are, and events without them. Reasons are criteria, and stay."""

from __future__ import annotations

from dataclasses import replace

from feedback.events import Comparison, Event, Label, Report, Response, Vote


def belongs(event: Event, subject: str, before: float) -> bool:
    """Whether it goes when the subject is forgotten: what it said or was served up to ``before`` (Unix seconds), and
    its prompts that raters were shown, whenever.
    """
    if isinstance(event, Response) and event.author == subject:
        return True
    return event.subject == subject and event.time <= before


def has_text(event: Event) -> bool:
    """Whether it holds anything that somebody wrote or was answered."""
    match event:
        case Response():
            return bool(event.messages or event.text)
        case Vote():
            return bool(event.comment or event.correction)
        case Comparison() | Report():
            return bool(event.comment)
        case Label():
            return False


def without_text(event: Event) -> Event:
    """What was served or said, when and by whom, and none of the words."""
    match event:
        case Response():
            return replace(event, messages=(), text="")
        case Vote():
            return replace(event, comment=None, correction=None)
        case Comparison():
            return replace(event, comment=None)
        case Report():
            return replace(event, comment=None)
        case Label():
            return event
