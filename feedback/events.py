"""What is logged: one frozen record an event, with the meaning and unit of every field.

On the wire an event is one JSON object: the fields below plus ``kind``. Unknown fields are ignored by
readers, so that a newer writer can run beside an older reader; a missing optional field reads as the
default given here, and its meaning is in the field's comment. Times are Unix seconds (float, UTC).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

import orjson

from feedback.errors import InvalidRecord

SCHEMA_VERSION = 1

Rating: TypeAlias = Literal["up", "down"]
Message: TypeAlias = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": text}
Preferred: TypeAlias = Literal[0, 1, "tie", "both_bad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One assistant message that was served."""

    event_id: str  # equals response_id: a response is one event
    response_id: str  # "chatcmpl-…", signed
    time: float  # when the first byte was sent
    alias: str
    adapter: str  # adapter id, or "base"
    arm: str  # arm's name within the experiment; "live" when none ran
    subject: str  # keyed hash of the end user
    experiment: str | None = None  # absent: no experiment was live on the alias
    propensity: float = 1.0  # probability with which this arm was drawn, in (0, 1]
    arm_shares: dict[str, float] = field(default_factory=dict)  # every arm's propensity in that draw; empty:
    # not logged, so that the response counts nothing for the sample ratio
    comparison_id: str | None = None  # absent: an ordinary chat
    side: int | None = None  # 0 or 1 within its comparison
    author: str | None = None  # whose prompt it is, where a rater was shown it; absent: the subject's own
    stored: bool = True  # False: ``store: false``; prompt and text are then empty and no vote is taken
    messages: tuple[Message, ...] = ()  # the prompt as the engine saw it, guidelines included
    text: str = ""  # the reply
    finish_reason: str | None = None  # absent: the client left before the end
    sampling: dict[str, float | int] = field(default_factory=dict)  # temperature, top_p, max_tokens, seed…
    prompt_tokens: int = 0  # 0: the engine did not say
    completion_tokens: int = 0
    time_to_first_token: float = 0.0  # seconds
    duration: float = 0.0  # seconds, first byte of the request to last byte of the reply
    engine: str = ""  # name of the engine that finished it
    code: int = 200  # HTTP status the client saw
    schema: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """A thumb on a response. The newest by time of a feedback_id counts; the others are its history."""

    event_id: str  # "ev-…", unique to this saying of it: the unit of deduplication
    feedback_id: str  # "fb-…", a function of response and subject: one voice each
    response_id: str
    time: float
    subject: str
    rating: Rating | None  # None: taken back
    alias: str | None = None  # absent: the log knew no such response when the vote came; the join fills it in
    reasons: tuple[str, ...] = ()
    comment: str | None = None
    correction: str | None = None  # what the assistant should have said
    schema: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A preference between responses to the same prompt, given as ranked groups, best first.

    ``[["a"], ["b"]]`` is a win of a, ``[["a", "b"]]`` a tie. ``both_bad`` marks a tie at the bottom.
    """

    event_id: str
    feedback_id: str
    time: float
    subject: str
    ranking: tuple[tuple[str, ...], ...]  # response ids
    both_bad: bool = False
    comparison_id: str | None = None  # absent: a free ranking
    preferred_side: int | None = None  # 0 or 1 as shown; absent for ties and rankings; for side bias only
    item: str | None = None  # the raters' item it is about; absent: a comparison of one's own, or not known
    order: tuple[tuple[int, ...], ...] = ()  # the ranking by the item's options, the same for all raters
    alias: str | None = None
    reasons: tuple[str, ...] = ()
    comment: str | None = None
    schema: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A rater's scores of one response by criterion, each in 0…1."""

    event_id: str
    feedback_id: str
    response_id: str
    time: float
    subject: str
    labels: dict[str, float]
    alias: str | None = None
    schema: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Somebody says a response is unsafe; training leaves the response out until it is dismissed."""

    event_id: str
    report_id: str  # "rp-…"
    response_id: str
    time: float
    subject: str
    report_kind: str
    comment: str | None = None
    verdict: Literal["upheld", "dismissed"] | None = None  # None: open
    alias: str | None = None
    schema: int = SCHEMA_VERSION


Event: TypeAlias = Response | Vote | Comparison | Label | Report
KINDS: dict[str, type[Event]] = {
    "response": Response,
    "vote": Vote,
    "comparison": Comparison,
    "label": Label,
    "report": Report,
}
_KIND_OF = {cls: kind for kind, cls in KINDS.items()}
_FIELDS = {cls: tuple(f.name for f in fields(cls)) for cls in KINDS.values()}
# What the indexes count and compare by. A record that is wrong here must be refused, not break a script.
_NUMBERS = {"time", "duration", "code", "completion_tokens", "propensity"}
_WORDS = {"event_id", "subject", "feedback_id", "response_id", "report_id", "arm", "alias"}


def kind_of(event: Event) -> str:
    """The event's kind as it stands on the wire."""
    return _KIND_OF[type(event)]


def encode(event: Event, without: Collection[str] = ()) -> bytes:
    """One event as JSON bytes; fields that hold None are left out, and those of ``without``."""
    body: dict[str, Any] = {"kind": kind_of(event)}
    for name in _FIELDS[type(event)]:
        value = getattr(event, name)
        if (value is not None or name == "rating") and name not in without:
            body[name] = value
    return orjson.dumps(body)


def decode(data: bytes) -> Event:
    """The event in ``data``. Raises InvalidRecord naming the field that is wrong."""
    try:
        body: dict[str, Any] = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidRecord("event", f"is not JSON ({error})") from error
    if not isinstance(body, dict) or body.get("kind") not in KINDS:
        raise InvalidRecord("kind", f"must be one of {', '.join(KINDS)}")
    cls = KINDS[body["kind"]]
    known = _FIELDS[cls]
    values = {name: _frozen(value) for name, value in body.items() if name in known}
    for name in _NUMBERS & values.keys():
        if not isinstance(values[name], int | float):
            raise InvalidRecord(name, "must be a number")
    for name in _WORDS & values.keys():
        if not isinstance(values[name], str):
            raise InvalidRecord(name, "must be a string")
    try:
        return cls(**values)
    except TypeError as error:
        raise InvalidRecord(body["kind"], str(error)) from error


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
