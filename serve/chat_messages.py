"""A chat's messages: text alone, in the roles that are taken."""

from __future__ import annotations

from typing import Any

from feedback.events import Message
from serve.errors import BadField

MAX_TOOLS = 128
ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


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
    told = {
        key: part for key, part in value.items() if part is not None
    }  # SDKs dump replies with every field
    for key, part in told.items():
        if key == "content":
            message["content"] = _content(part, f"{where}.content")
        elif key == "tool_calls" and role == "assistant":
            message["tool_calls"] = _tool_calls(part, f"{where}.tool_calls")
        elif key == "tool_call_id" and role == "tool":
            message["tool_call_id"] = read_text(part, f"{where}.tool_call_id")
        elif key == "name":
            message["name"] = read_text(part, f"{where}.name")
        elif key != "role":
            raise BadField(f"{where}.{key}", "is not a field that is taken here", code="unknown_parameter")
    if not {"content", "tool_calls"} & message.keys():
        raise BadField(f"{where}.content", "must be text")
    message.setdefault("content", None)
    return message


def _content(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise BadField(where, "must be text or a list of text parts")
    texts = []
    for index, part in enumerate(value):
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise BadField(
                f"{where}[{index}]", 'must be a part {"type": "text", "text": "…"}; only text is taken'
            )
        texts.append(part["text"])
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
        calls.append(
            {
                "id": read_text(call.get("id"), f"{here}.id"),
                "type": "function",
                "function": {
                    "name": read_text(function.get("name"), f"{here}.function.name"),
                    "arguments": read_text(function.get("arguments"), f"{here}.function.arguments"),
                },
            }
        )
    return calls


def read_text(value: Any, where: str) -> str:
    """The text. Raises BadField for anything else."""
    if not isinstance(value, str):
        raise BadField(where, "must be text")
    return value
