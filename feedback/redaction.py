"""Takes personal data out of what is stored; what the model is asked and answers is not touched.

``HEED_REDACT`` names the step: ``off``, ``patterns`` (see ``patterns.py``), or ``module:callable``, which gets a text
and returns it with placeholders. A callable must be a function of the text alone, and of its own output make the same
again: texts are compared after it. When it fails, nothing of that event's text is stored.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

from feedback.errors import SettingsError
from feedback.events import Comparison, Event, Label, Message, Report, Response, Vote, kind_of
from feedback.patterns import redact as by_patterns
from feedback.texts import without_text

logger = logging.getLogger(__name__)
Redact: TypeAlias = Callable[[str], str]  # raises anything: then none of the text may be kept


class Redaction:
    """The step, for events. ``redact`` None: events pass as they are."""

    def __init__(self, redact: Redact | None = None, failed: Callable[[], object] = lambda: None) -> None:
        self._redact = redact
        self._failed = failed  # called for each event whose text was left out

    @property
    def on(self) -> bool:
        """Whether texts are changed at all."""
        return self._redact is not None

    def __call__(self, event: Event) -> Event:
        """The event as it may be stored."""
        if self._redact is None or isinstance(event, Label):
            return event
        try:
            return _with(event, self._redact)
        except Exception:  # noqa: BLE001 - a plug-in's own faults are its own; the text must not stay because of them
            # The error may quote the text: only the kind of event is told.
            logger.error("a %s is stored without its text: it could not be redacted", kind_of(event))  # noqa: TRY400
            self._failed()
            return _bare(event)

    def messages(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """A prompt as it may be stored or shown to others; empty when it cannot be redacted."""
        if self._redact is None:
            return messages
        try:
            return _messages(messages, self._redact)
        except Exception:  # noqa: BLE001 - as above
            return ()


def redaction_of(setting: str) -> Redact | None:
    """The function that ``HEED_REDACT`` names. Raises SettingsError."""
    if setting in ("", "off"):
        return None
    if setting == "patterns":
        return by_patterns
    module, _, name = setting.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), name) if name else None
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"HEED_REDACT={setting}: cannot be imported ({error})") from error
    if not callable(found):
        raise SettingsError(f"HEED_REDACT={setting}: must be off, patterns, or module:callable")
    redact: Redact = found
    return redact


def _said(redact: Redact, text: str) -> str:
    said = redact(text)
    if not isinstance(said, str):
        raise TypeError("a redacted text is no text")
    return said


def _with(event: Event, redact: Redact) -> Event:
    def of(text: str) -> str:
        return _said(redact, text) if text else text

    def maybe(text: str | None) -> str | None:
        return None if text is None else of(text)

    match event:
        case Response():
            return replace(event, messages=_messages(event.messages, redact), text=of(event.text))
        case Vote():
            reasons = tuple(of(reason) for reason in event.reasons)
            correction = maybe(event.correction)
            return replace(event, reasons=reasons, comment=maybe(event.comment), correction=correction)
        case Comparison():
            reasons = tuple(of(reason) for reason in event.reasons)
            return replace(event, reasons=reasons, comment=maybe(event.comment))
        case Report():
            return replace(event, comment=maybe(event.comment))
        case Label():
            return event


def _messages(messages: tuple[Message, ...], redact: Redact) -> tuple[Message, ...]:
    return tuple(
        {name: value if name == "role" else _said(redact, value) for name, value in message.items()}
        for message in messages
    )


def _bare(event: Event) -> Event:
    """Without any text; what was rated, when and by whom stays."""
    bare = without_text(event)
    return replace(bare, reasons=()) if isinstance(bare, Vote | Comparison) else bare
