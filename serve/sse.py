"""Server-sent events as bytes: rename the model in a stream, and read a reply back out of it.

An event ends at a blank line. ``Rename`` passes whole events on and holds back what is not whole yet, so
its output does not depend on where the network cut the bytes. The engine writes compact JSON, in which
``"model":"name"`` with bare quotes can only be the envelope's field: within any text the quotes are
escaped. No JSON is parsed on the way, but for the last event with the usage.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

END = b"\n\n"
DONE = b"data: [DONE]\n\n"
_USAGE = b'"choices":[],'
_ERROR = b'data: {"error"'
_HIDDEN = ("system_fingerprint", "metrics", "prompt_token_ids", "prompt_text")


class Rename:
    """Replaces the served model's name by the alias, event by event."""

    def __init__(self, served: str, alias: str, *, keep_usage: bool) -> None:
        self._served = b'"model":' + orjson.dumps(served)
        self._alias = b'"model":' + orjson.dumps(alias)
        self._name = alias
        self._keep_usage = keep_usage
        self._held = b""
        self.usage: dict[str, Any] | None = None  # once the engine told it
        self.error: bytes | None = None  # the engine's own words when it broke off, never passed on
        self.done = False  # the engine said that the stream is whole

    def feed(self, data: bytes) -> bytes:
        """What can be passed on now; may be empty."""
        data = self._held + data if self._held else data
        if data.endswith(END):
            self._held = b""
        else:
            whole, end, self._held = data.rpartition(END)
            data = whole + end
        if _USAGE in data or _ERROR in data or b"[DONE]" in data:
            data = b"".join(self._rare(event + END) for event in data.split(END)[:-1])
        return data.replace(self._served, self._alias)

    def _rare(self, event: bytes) -> bytes:
        """Handle the events that do not come with every token."""
        if event == DONE:
            self.done = True
        elif event.startswith(_ERROR):
            self.error = event
            return error_event("the engine broke off", "engine_error")
        elif _USAGE in event:
            return self._usage(event)
        return event

    def _usage(self, event: bytes) -> bytes:
        body = payload(event)
        if body is None or not isinstance(body.get("usage"), dict):
            return event
        self.usage = body["usage"]
        if not self._keep_usage:
            return b""
        body["model"] = self._name
        return b"data: " + orjson.dumps({key: body[key] for key in body if key not in _HIDDEN}) + END


def payload(event: bytes) -> dict[str, Any] | None:
    """The JSON object of one event; None for ``[DONE]``, comments and what does not parse."""
    if not event.startswith(b"data: {"):
        return None
    try:
        body = orjson.loads(event[6:].strip())
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None


def error_event(message: str, code: str) -> bytes:
    """An error within a stream, in OpenAI's shape."""
    error = {"message": message, "type": "server_error", "param": None, "code": code}
    return b"data: " + orjson.dumps({"error": error}) + END


@dataclass(slots=True)
class Reply:
    """What a whole stream or body said."""

    text: str = ""
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    _texts: list[str] = field(default_factory=list)

    def take(self, body: dict[str, Any]) -> None:
        """Add one chunk or one whole body."""
        for choice in body.get("choices") or ():
            said = choice.get("delta") or choice.get("message") or {}
            if said.get("content"):
                self._texts.append(said["content"])
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
        usage = body.get("usage")
        if isinstance(usage, dict):
            self.prompt_tokens = int(usage.get("prompt_tokens") or 0)
            self.completion_tokens = int(usage.get("completion_tokens") or 0)

    def whole(self) -> Reply:
        """Join what was taken."""
        self.text = "".join(self._texts)
        return self


def read_reply(chunks: Iterable[bytes], usage: dict[str, Any] | None) -> Reply:
    """The reply in a streamed answer's bytes."""
    reply = Reply()
    for event in b"".join(chunks).split(END):
        body = payload(event)
        if body is not None:
            reply.take(body)
    if usage is not None:
        reply.take({"usage": usage})
    return reply.whole()
