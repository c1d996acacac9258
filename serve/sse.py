"""Server-sent events as bytes: rename the model in a stream, and read a reply back out of it.

An event ends at a blank line. ``Rename`` passes whole events on and holds back what is not whole yet, so
its output does not depend on where the network cut the bytes. The engine writes compact JSON, in which
``"model":"name"`` with bare quotes can only be the envelope's field: within any text the quotes are
escaped. No JSON is parsed on the way, but for the last event with the usage.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import Any

import orjson

END = b"\n\n"
DONE = b"data: [DONE]\n\n"
NOT_A_CHAT = (AttributeError, TypeError, ValueError)  # how reading what an engine should not send fails
JOINED = 512  # pieces of text after which they are made one, which takes less memory
_USAGE = b'"choices":[],'
_USAGE_TOLD = b'"usage":{'  # bare quotes: no text says this, and this event has none
_ERROR = b'data: {"error"'
_RARE = (
    _USAGE,
    _ERROR,
    b"[DONE]",
)  # marks of events that do not come with every token, or of text that says so
# Which tokens a chunk is made of: asked for so that another engine can go on, and not the client's business.
_NO_TOKENS = (b',"token_ids":null', b',"prompt_token_ids":null')
_TOKENS = re.compile(rb',"(?:prompt_)?token_ids":\[[\d,]*\]')
_HIDDEN = ("system_fingerprint", "metrics", "prompt_token_ids", "prompt_text")


class Rename:
    """Replaces the served model's name by the alias, event by event."""

    def __init__(self, served: str, alias: str, *, keep_usage: bool) -> None:
        self._served = b'"model":' + orjson.dumps(served)
        self._alias = b'"model":' + orjson.dumps(alias)
        self._name = alias
        self._keep_usage = keep_usage
        self._held = b""
        self._plain = b""  # how this stream's events of mere text begin
        self._renamed = b""  # and how they begin for the client
        self.whole = b""  # what was passed on last, as the engine wrote it
        self.error: bytes | None = None  # the engine's own words when it broke off, never passed on
        self.done = False  # the engine said that the stream is whole

    def feed(self, data: bytes) -> bytes:
        """What can be passed on now; may be empty."""
        if self._plain and data.startswith(self._plain) and not self._held and (out := self._mere_text(data)):
            return out
        data = self._held + data if self._held else data
        if data.endswith(END):
            self._held = b""
        else:
            whole, end, self._held = data.rpartition(END)
            data = whole + end
        self.whole = data
        rare = _first(data)
        if rare >= 0:
            rare = data.rfind(END, 0, rare) + len(END) if END in data[:rare] else 0
            data = data[:rare] + b"".join(self._rare(event + END) for event in data[rare:].split(END)[:-1])
        for none in _NO_TOKENS:
            data = data.replace(none, b"")
        if b'token_ids":[' in data:
            data = _TOKENS.sub(b"", data)
        if not self._plain:
            self._learn_beginning(self.whole)
        return data.replace(self._served, self._alias)

    def _mere_text(self, data: bytes) -> bytes:
        """One whole event of nothing but text that begins as those before, as nearly all do: its ends are known, so
        nothing is searched for within. Empty: it is not one, or more than one.
        """
        begin = len(self._plain)
        end = data.find(_AFTER_TEXT, begin)
        rest = data[end + len(_AFTER_TEXT) :] if end >= 0 else b""
        if rest not in _WITHOUT_TOKENS and not _ONLY_TOKENS.fullmatch(rest):
            return b""
        self.whole = data
        return self._renamed + data[begin:end] + _END_OF_TEXT

    def _learn_beginning(self, data: bytes) -> None:
        """How events of mere text begin, where ``data`` is one: all of a stream's begin alike."""
        text = data.find(_BEFORE_TEXT)
        if text >= 0 and data.find(END) == len(data) - len(END):
            self._plain = data[: text + len(_BEFORE_TEXT)]
            self._renamed = self._plain.replace(self._served, self._alias)

    def again(self) -> None:
        """Another engine goes on: what was not whole yet comes again."""
        self._held = self._plain = b""
        self.error = None

    def _rare(self, event: bytes) -> bytes:
        """Handle the events that do not come with every token."""
        if self.error is not None:  # vLLM says [DONE] after an error too
            return b""
        if event == DONE:
            self.done = True
        elif event.startswith(_ERROR):
            self.error = event
            return b""
        elif _USAGE in event:
            return self._usage(event)
        return event

    def _usage(self, event: bytes) -> bytes:
        if not self._keep_usage and _USAGE_TOLD in event:
            return b""
        body = payload(event)
        if body is None or not isinstance(body.get("usage"), dict):
            return event
        if not self._keep_usage:
            return b""
        body["model"] = self._name
        return b"data: " + orjson.dumps({key: body[key] for key in body if key not in _HIDDEN}) + END


def _first(data: bytes) -> int:
    """Where the first mark of a rare event lies; -1: there is none."""
    first = -1
    for mark in _RARE:
        at = data.find(mark)
        if at >= 0 and (first < 0 or at < first):
            first = at
    return first


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


# Around the text of an event that is nothing else. Within a text quotes are escaped, so neither can be a part of one.
_BEFORE_TEXT, _AFTER_TEXT = b'"delta":{"content":"', b'"},"logprobs":null,"finish_reason":null'
_WITHOUT_TOKENS = frozenset({b"}]}\n\n", b',"token_ids":null}]}\n\n'})
_END_OF_TEXT = _AFTER_TEXT + b"}]}\n\n"
_ONLY_TOKENS = re.compile(rb',"token_ids":\[([\d,]*)\]\}\]\}\n\n')
Strand = tuple[
    str, int
]  # what a piece of a reply belongs to: ("content", 0), or ("arguments", 1) of a tool call
_TEXT: Strand = ("content", 0)


@dataclass(slots=True)
class Reply:
    """What a stream or a body has said so far."""

    finish_reason: str | None = None
    created: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_token_ids: list[int] = field(default_factory=list)  # empty unless they were asked for
    token_ids: list[int] = field(default_factory=list)  # of the reply; so too
    logprobs: int = 0  # tokens that came with log-probabilities
    said: int = 0  # pieces that it came in; most are of one token, and some of more
    _pieces: dict[Strand, list[str]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All text so far."""
        return "".join(self._pieces.get(_TEXT, ()))

    @property
    def plain(self) -> bool:
        """Whether nothing but text came: no tool call, no reasoning, no log-probability."""
        return not self.logprobs and self._pieces.keys() <= {_TEXT}

    def strands(self) -> dict[Strand, str]:
        """All that was said, by what it belongs to."""
        return {strand: "".join(pieces) for strand, pieces in self._pieces.items()}

    def take(self, body: dict[str, Any]) -> None:
        """Add one chunk or one whole body. Raises one of NOT_A_CHAT for what is none."""
        self.created = body.get("created") or self.created
        self.prompt_token_ids = body.get("prompt_token_ids") or self.prompt_token_ids
        for choice in body.get("choices") or ():
            self._say(choice.get("delta") or choice.get("message") or {})
            self.token_ids += choice.get("token_ids") or ()
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            if choice.get("logprobs"):
                self.logprobs += len(choice["logprobs"].get("content") or ())
        usage = body.get("usage")
        if isinstance(usage, dict):
            self.prompt_tokens = int(usage.get("prompt_tokens") or 0)
            self.completion_tokens = int(usage.get("completion_tokens") or 0)

    def _say(self, said: dict[str, Any]) -> None:
        if said.get("content"):
            self._add(_TEXT, said["content"])
        if len(said) > 1 or "content" not in said:
            if said.get("reasoning"):
                self._add(("reasoning", 0), said["reasoning"])
            for place, call in enumerate(said.get("tool_calls") or ()):
                index, function = int(call.get("index", place)), call.get("function") or {}
                for part in ("name", "arguments"):
                    if function.get(part):
                        self._add((part, index), function[part])

    def _add(self, strand: Strand, text: str, said: int = 1) -> None:
        if not isinstance(text, str):
            raise TypeError(f"{strand[0]} is not text")
        self.said += said
        pieces = self._pieces.setdefault(strand, [])
        pieces.append(text)
        if len(pieces) > JOINED:
            pieces[:] = ["".join(pieces)]

    def drop_text(self) -> None:
        """Too long to be kept."""
        self._pieces.clear()
        self.token_ids.clear()
        self.prompt_token_ids.clear()

    def take_events(self, data: bytes) -> None:
        """Add whole events; what is not a chat's is passed over. Those that are a piece of text and nothing else, as
        most are, begin alike up to their text: they are cut up by that and decoded together.
        """
        at = data.find(_BEFORE_TEXT)
        begin = data.rfind(END, 0, at) + len(END) if END in data[: max(at, 0)] else 0
        alike = data[begin : at + len(_BEFORE_TEXT)]
        if at < 0 or not alike.startswith(b"data: {"):
            self._take_each(data)
            return
        other, *pieces = data.split(alike)
        self._take_each(other)
        plain: list[
            tuple[bytes, bytes, bytes]
        ] = []  # the event, JSON text, what is within the brackets of its tokens
        for piece in pieces:
            text, _, rest = piece.partition(_AFTER_TEXT)
            if rest in _WITHOUT_TOKENS:
                plain.append((piece, text, b""))
            elif told := _ONLY_TOKENS.fullmatch(rest):
                plain.append((piece, text, told[1]))
            else:
                self._take_plain(alike, plain)
                self._take_each(alike + piece)
        self._take_plain(alike, plain)

    def _take_plain(self, alike: bytes, plain: list[tuple[bytes, bytes, bytes]]) -> None:
        if not plain:
            return
        try:
            text = orjson.loads(b'"' + b"".join(text for _, text, _ in plain) + b'"')
            tokens = orjson.loads(b"[" + b",".join(ids for _, _, ids in plain if ids) + b"]")
        except orjson.JSONDecodeError:
            for piece, _, _ in plain:
                self._take_each(alike + piece)
        else:
            if text:
                self._add(_TEXT, text, len(plain))
            self.token_ids += tokens
        plain.clear()

    def _take_each(self, data: bytes) -> None:
        for event in data.split(END):
            self._take_one(event)

    def _take_one(self, event: bytes) -> None:
        body = payload(event)
        if body is not None:
            with contextlib.suppress(*NOT_A_CHAT):
                self.take(body)
