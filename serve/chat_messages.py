"""A chat's messages: text alone, in the roles that are taken."""

from __future__ import annotations

import re
from typing import Any

import orjson

from feedback.events import Message
from serve.errors import BadField

MAX_TOOLS = 128
MAX_CALL_ID = 256  # characters
MAX_ARGUMENTS_NESTING = 64  # of a call's arguments; chat templates are handed them parsed
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_OF_REPLIES = frozenset({"tool_calls", "refusal", "annotations", "reasoning", "reasoning_content"})
_TEXT_PARTS = ("text", "refusal")  # types of a content part, each with its text under the same name


def logged_messages(messages: list[dict[str, Any]]) -> tuple[Message, ...]:
    """The prompt as the Response event keeps it: role and text."""
    return tuple({"role": str(one["role"]), "content": str(one.get("content") or "")} for one in messages)


def with_guidelines(messages: list[dict[str, Any]], guidelines: str) -> list[dict[str, Any]]:
    """The alias's guidelines put first; joined with the client's own system message, since many chat
    templates take only one.
    """
    if not guidelines:
        return messages
    if messages[0]["role"] == "system":
        joined = f"{guidelines}\n\n{messages[0]['content']}"
        return [{"role": "system", "content": joined}, *messages[1:]]
    return [{"role": "system", "content": guidelines}, *messages]


def read_message(value: Any, where: str) -> dict[str, Any]:
    """One message, built fresh of the fields that are known. Raises BadField."""
    if not isinstance(value, dict):
        raise BadField(where, "must be an object")
    role = value.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise BadField(f"{where}.role", f"must be one of {', '.join(sorted(ROLES))}")
    message: dict[str, Any] = {"role": "system" if role == "developer" else role}
    for key, part in value.items():
        if part is not None and key != "role":  # SDKs dump replies with every field
            _read_field(message, key, part, f"{where}.{key}")
    if not {"content", "tool_calls"} & message.keys():
        raise BadField(f"{where}.content", "must be text")
    message.setdefault("content", None)
    return message


def _read_field(message: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Put one field, if it is taken from this role, into ``message``. Raises BadField."""
    if key == "content":
        message["content"] = read_content(value, where)
    elif key == "name":
        message["name"] = read_name(value, where)
    elif key == "tool_call_id" and message["role"] == "tool":
        message["tool_call_id"] = _call_id(value, where)
    elif key in _OF_REPLIES and message["role"] == "assistant":
        _read_of_reply(message, key, value, where)
    else:
        raise BadField(where, "is not a field that is taken here", code="unknown_parameter")


def _read_of_reply(message: dict[str, Any], key: str, value: Any, where: str) -> None:
    """What a reply has besides its text, and a client sends back with the history. Raises BadField."""
    if key == "tool_calls":
        if calls := _tool_calls(value, where):  # some frameworks send an empty list for none
            message["tool_calls"] = calls
    elif key == "refusal":
        refusal = read_text(value, where)
        message["content"] = message.get("content") or refusal
    elif key == "annotations":
        if not isinstance(value, list):
            raise BadField(where, "must be a list")
    else:
        read_text(value, where)  # thoughts stay out of the next prompt, as chat templates have it


def read_content(value: Any, where: str) -> str:
    """The text of a string or of a list of parts. Raises BadField for anything but text."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise BadField(where, "must be text or a list of text parts")
    texts = []
    for index, part in enumerate(value):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in _TEXT_PARTS or not isinstance(part.get(kind), str):
            raise BadField(
                f"{where}[{index}]", 'must be a part {"type": "text", "text": "…"}; only text is taken'
            )
        texts.append(part[kind])
    return "".join(texts)


def _tool_calls(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > MAX_TOOLS:
        raise BadField(where, f"must be a list of at most {MAX_TOOLS} calls")
    calls = []
    for index, call in enumerate(value):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            raise BadField(f"{where}[{index}].function", "must be an object")
        here = f"{where}[{index}]"
        if call.get("type") not in (None, "function"):
            raise BadField(f"{here}.type", "must be function")
        calls.append(
            {
                "id": _call_id(call.get("id"), f"{here}.id"),
                "type": "function",
                "function": {
                    "name": read_name(function.get("name"), f"{here}.function.name"),
                    "arguments": _arguments(function.get("arguments"), f"{here}.function.arguments"),
                },
            }
        )
    return calls


def read_text(value: Any, where: str) -> str:
    """The text. Raises BadField for anything else."""
    if not isinstance(value, str):
        raise BadField(where, "must be text")
    return value


def read_name(value: Any, where: str) -> str:
    """A name as OpenAI takes it. Raises BadField."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise BadField(where, "must be 1 to 64 letters, digits, dots, hyphens and underscores")
    return value


def is_within(levels: int, value: Any) -> bool:
    """Whether no object or list lies deeper; without recursion, which the value could exhaust."""
    level = [value]
    for _ in range(levels):
        inner = [part for one in level for part in (one.values() if isinstance(one, dict) else one)]
        level = [part for part in inner if isinstance(part, dict | list)]
    return not level


def _call_id(value: Any, where: str) -> str:
    text = read_text(value, where)
    if not 0 < len(text) <= MAX_CALL_ID:
        raise BadField(where, f"must have 1 to {MAX_CALL_ID} characters")
    return text


def _arguments(value: Any, where: str) -> str:
    """A call's arguments as the model wrote them: JSON in a text, or nothing."""
    text = read_text(value, where)
    try:
        parsed = orjson.loads(text or "{}")
    except orjson.JSONDecodeError as error:
        raise BadField(where, "must be a JSON object in a text") from error
    if not isinstance(parsed, dict) or not is_within(MAX_ARGUMENTS_NESTING, parsed):
        raise BadField(where, f"must be a JSON object of at most {MAX_ARGUMENTS_NESTING} levels in a text")
    return text
