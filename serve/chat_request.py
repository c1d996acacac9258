"""A chat's body, checked by hand against an allowlist: nothing the gateway does not know reaches an engine.

Parsing by hand keeps the hot path at microseconds; ``schemas.chat_body`` documents the same fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from serve.chat_functions import read_choice, read_format, read_tools
from serve.chat_hints import HINTS, read_hint
from serve.chat_messages import read_message
from serve.errors import BadField
from serve.settings import GatewaySettings

MAX_IDENTIFIER = 256  # characters of user, safety_identifier and the Heed-User header
MAX_STOP, MAX_STOP_LENGTH = 4, 256
MAX_LOGIT_BIAS = 300
MAX_METADATA = 16
INT64 = 2**63
EXACT = 2.0**53  # below, a float is the whole number that was written
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")
LOGGED_SAMPLING = (
    "temperature", "top_p", "max_tokens", "seed", "presence_penalty", "frequency_penalty",
    "top_k", "min_p", "repetition_penalty",
)  # fmt: skip


@dataclass(slots=True)
class ChatRequest:
    """A chat as checked: what to ask the engine, and who asked."""

    model: str  # as asked for: alias, or alias:target
    messages: list[dict[str, Any]]
    sampling: dict[str, Any] = field(default_factory=dict)  # fields that go to the engine as they are
    stream: bool = False
    include_usage: bool = False
    stored: bool = True
    user: str | None = None
    safety_identifier: str | None = None

    @property
    def alias(self) -> str:
        return self.model.partition(":")[0]

    @property
    def pinned(self) -> str | None:
        """``base`` or an adapter id when ``alias:target`` was asked for."""
        return self.model.partition(":")[2] or None

    def logged_sampling(self, overrides: dict[str, float | int]) -> dict[str, float | int]:
        """The sampling settings that the Response event keeps."""
        every = {**self.sampling, **overrides}
        return {name: every[name] for name in LOGGED_SAMPLING if every.get(name) is not None}

    def engine_body(
        self,
        served: str,
        messages: list[dict[str, Any]],
        overrides: dict[str, float | int],
        priority: int = 0,
    ) -> bytes:
        """The body for the engine, built fresh. Usage is always asked for: the log needs it. Of a lower
        ``priority`` comes first; 0 is vLLM's default and is not sent.
        """
        body: dict[str, Any] = {"model": served, "messages": messages, **self.sampling, **overrides}
        if self.stream:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True}
        if priority:
            body["priority"] = priority
        return orjson.dumps(body)


def parse_chat(
    data: bytes, settings: GatewaySettings, *, refuse: frozenset[str] = frozenset()
) -> ChatRequest:
    """The chat in ``data``. Raises BadField naming the field that is wrong; ``refuse`` names fields that
    are known but not taken here.
    """
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadField("body", f"is not JSON ({error})", code="invalid_json") from error
    if not isinstance(body, dict):
        raise BadField("body", "must be a JSON object")
    request = ChatRequest(model=_model(body.get("model")), messages=[])
    for name, value in body.items():
        check = _FIELDS.get(name)
        if check is None or name in refuse:
            raise BadField(name, "is not a field that is taken here", code="unknown_parameter")
        if value is not None:
            check(request, name, value, settings)
    if not request.messages:
        raise BadField(
            "messages", "must be a list with at least one message", code="missing_required_parameter"
        )
    if "top_logprobs" in request.sampling and not request.sampling.get("logprobs"):
        raise BadField("top_logprobs", "needs logprobs: true")
    if "tool_choice" in request.sampling and "tools" not in request.sampling:
        raise BadField("tool_choice", "needs tools")
    if request.sampling.get("ignore_eos"):
        request.stored = False  # what comes after a reply's own end is nothing to vote on or learn from
    return request


def checked_sampling(values: Mapping[str, Any], settings: GatewaySettings) -> dict[str, Any]:
    """An arm's sampling settings, within the bounds of a chat's. Raises BadField naming the one."""
    request = ChatRequest(model="", messages=[])
    for name, value in values.items():
        if name not in LOGGED_SAMPLING:
            raise BadField(name, f"is not one of {', '.join(LOGGED_SAMPLING)}")
        _FIELDS[name](request, name, value, settings)
    return request.sampling


def _model(value: Any) -> str:
    if value is None:
        raise BadField("model", "must name an alias", code="missing_required_parameter")
    if not isinstance(value, str) or not value:
        raise BadField("model", "must be the name of an alias, as text")
    if len(value) > MAX_IDENTIFIER:
        raise BadField("model", f"is over {MAX_IDENTIFIER} characters")
    if value.endswith(":"):
        raise BadField("model", "names no adapter after the colon")
    return value


def _messages(request: ChatRequest, name: str, value: Any, settings: GatewaySettings) -> None:
    if not isinstance(value, list) or not value:
        raise BadField(name, "must be a list with at least one message")
    if len(value) > settings.max_messages:
        raise BadField(name, f"has {len(value)} messages; at most {settings.max_messages} are taken")
    request.messages = [read_message(one, f"messages[{index}]") for index, one in enumerate(value)]


def _number(low: float, high: float) -> Callable[[ChatRequest, str, Any, GatewaySettings], None]:
    def check(request: ChatRequest, name: str, value: Any, _: GatewaySettings) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise BadField(name, f"must be a number from {low:g} to {high:g}")
        request.sampling[name] = value

    return check


def _whole(value: Any) -> int | None:
    """JSON has one kind of number, so 5.0 is 5; None for what is no whole number, or may have been another."""
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _integer(low: int, high: int) -> Callable[[ChatRequest, str, Any, GatewaySettings], None]:
    def check(request: ChatRequest, name: str, value: Any, _: GatewaySettings) -> None:
        whole = _whole(value)
        if whole is None or not low <= whole <= high:
            raise BadField(name, f"must be an integer from {low} to {high}")
        request.sampling[name] = whole

    return check


def _max_tokens(request: ChatRequest, name: str, value: Any, settings: GatewaySettings) -> None:
    cap = settings.max_tokens_cap
    whole = _whole(value)
    if whole is None or not 1 <= whole <= cap:
        raise BadField(name, f"must be an integer from 1 to {cap}")
    request.sampling["max_tokens"] = min(whole, request.sampling.get("max_tokens", cap))


def _one(_: ChatRequest, name: str, value: Any, __: GatewaySettings) -> None:
    if isinstance(value, bool) or value != 1:
        raise BadField(name, "must be 1: each response has its own id to vote on; send several requests")


def _flag(request: ChatRequest, name: str, value: Any, _: GatewaySettings) -> None:
    if not isinstance(value, bool):
        raise BadField(name, "must be true or false")
    if name == "stream":
        request.stream = value
    elif name == "store":
        request.stored = value
    else:
        request.sampling[name] = value


def _stop(request: ChatRequest, name: str, value: Any, _: GatewaySettings) -> None:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or len(stops) > MAX_STOP:
        raise BadField(name, f"must be text or a list of at most {MAX_STOP} texts")
    if not all(isinstance(stop, str) and 0 < len(stop) <= MAX_STOP_LENGTH for stop in stops):
        raise BadField(name, f"must hold texts of 1 to {MAX_STOP_LENGTH} characters")
    request.sampling[name] = stops


def _logit_bias(request: ChatRequest, name: str, value: Any, _: GatewaySettings) -> None:
    if not isinstance(value, dict) or len(value) > MAX_LOGIT_BIAS:
        raise BadField(name, f"must be an object of at most {MAX_LOGIT_BIAS} token ids")
    for token, bias in value.items():
        if not (token.isascii() and token.isdigit() and len(token) < 10):
            raise BadField(f"{name}.{token[:20]}", "must be a token id")
        if isinstance(bias, bool) or not isinstance(bias, int | float) or not -100 <= bias <= 100:
            raise BadField(f"{name}.{token}", "must be a number from -100 to 100")
    request.sampling[name] = value


def _stream_options(request: ChatRequest, name: str, value: Any, _: GatewaySettings) -> None:
    if not isinstance(value, dict) or set(value) - {"include_usage", "include_obfuscation"}:
        raise BadField(name, "must be an object that holds include_usage alone")
    for part, told in value.items():
        if not isinstance(told, bool):
            raise BadField(f"{name}.{part}", "must be true or false")
    if value.get("include_obfuscation"):
        raise BadField(f"{name}.include_obfuscation", "must be false: chunks come as they are")
    request.include_usage = value.get("include_usage", False)


def _response_format(request: ChatRequest, name: str, value: Any, _: GatewaySettings) -> None:
    request.sampling[name] = read_format(value, name)


def _tools(request: ChatRequest, name: str, value: Any, _: GatewaySettings) -> None:
    if tools := read_tools(value, name):  # some frameworks send an empty list for none
        request.sampling[name] = tools


def _tool_choice(request: ChatRequest, name: str, value: Any, _: GatewaySettings) -> None:
    request.sampling[name] = read_choice(value, name)


def _reasoning_effort(request: ChatRequest, name: str, value: Any, _: GatewaySettings) -> None:
    if value not in EFFORTS:
        raise BadField(name, f"must be one of {', '.join(EFFORTS)}")
    request.sampling[name] = value


def _hint(_: ChatRequest, name: str, value: Any, __: GatewaySettings) -> None:
    read_hint(value, name)


def identifier(value: Any, where: str) -> str:
    """An end user's identifier. Raises BadField unless it is text of 1 to 256 characters."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_IDENTIFIER:
        raise BadField(where, f"must be text of 1 to {MAX_IDENTIFIER} characters")
    return value


def _user(request: ChatRequest, name: str, value: Any, _: GatewaySettings) -> None:
    request.user = identifier(value, name)


def _safety_identifier(request: ChatRequest, name: str, value: Any, _: GatewaySettings) -> None:
    request.safety_identifier = identifier(value, name)


def _metadata(_: ChatRequest, name: str, value: Any, __: GatewaySettings) -> None:
    if not isinstance(value, dict) or len(value) > MAX_METADATA:
        raise BadField(name, f"must be an object of at most {MAX_METADATA} texts")
    if not all(isinstance(one, str) and len(one) <= 512 and len(key) <= 64 for key, one in value.items()):
        raise BadField(name, "must hold texts of at most 512 characters under keys of at most 64")


def _ignored(_: ChatRequest, __: str, ___: Any, ____: GatewaySettings) -> None:
    """The model was read before."""


_FIELDS: dict[str, Callable[[ChatRequest, str, Any, GatewaySettings], None]] = {
    "messages": _messages,
    "model": _ignored,
    "stream": _flag,
    "store": _flag,
    "logprobs": _flag,
    "parallel_tool_calls": _flag,
    "stream_options": _stream_options,
    "max_tokens": _max_tokens,
    "max_completion_tokens": _max_tokens,
    "temperature": _number(0, 2),
    "top_p": _number(0.000001, 1),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "seed": _integer(-INT64, INT64 - 1),
    "top_logprobs": _integer(0, 20),
    "n": _one,
    "stop": _stop,
    "logit_bias": _logit_bias,
    "response_format": _response_format,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "user": _user,
    "safety_identifier": _safety_identifier,
    "metadata": _metadata,
    "reasoning_effort": _reasoning_effort,
    "top_k": _integer(-1, 100_000),  # these four are vLLM's own; its `bench serve` sends the last unasked
    "min_p": _number(0, 1),
    "repetition_penalty": _number(0.1, 2),
    "ignore_eos": _flag,
    **dict.fromkeys(HINTS, _hint),
}
