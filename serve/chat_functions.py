"""Tools, the choice among them, and response formats: the parts of a chat that carry a client's JSON schema."""

from __future__ import annotations

from typing import Any

from serve.chat_messages import MAX_TOOLS, read_name, read_text
from serve.chat_schemas import MAX_REPEAT, MAX_REPEAT_OF_TOOLS, read_schema, size_of
from serve.errors import BadField

MAX_PARTS_OF_TOOLS = 10_000  # keys and list items of all tools' schemas


def read_format(value: Any, where: str) -> dict[str, Any]:
    """``response_format``, built fresh of the fields that are known. Raises BadField."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind in ("text", "json_object"):
        return {"type": kind}
    if kind != "json_schema":
        raise BadField(where, "must be of type text, json_object or json_schema")
    schema = value.get(kind)
    if not isinstance(schema, dict):
        raise BadField(f"{where}.{kind}", "must be an object with name and schema")
    kept = _described(schema, "schema", f"{where}.{kind}", MAX_REPEAT)
    if "schema" not in kept:
        raise BadField(f"{where}.{kind}.schema", "must be an object")
    return {"type": kind, kind: kept}


def read_tools(value: Any, where: str) -> list[dict[str, Any]]:
    """``tools``, built fresh of the fields that are known. Raises BadField."""
    if not isinstance(value, list) or len(value) > MAX_TOOLS:
        raise BadField(where, f"must be a list of at most {MAX_TOOLS} tools")
    tools: list[dict[str, Any]] = []
    size = 0
    for index, tool in enumerate(value):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type") != "function":
            raise BadField(f"{where}[{index}]", 'must be {"type": "function", "function": {…}}')
        kept = _described(function, "parameters", f"{where}[{index}].function", MAX_REPEAT_OF_TOOLS)
        tools.append({"type": "function", "function": kept})
        size += size_of(kept.get("parameters", {}), MAX_PARTS_OF_TOOLS)
        if size > MAX_PARTS_OF_TOOLS:
            raise BadField(where, f"have schemas of over {MAX_PARTS_OF_TOOLS} keys and items together")
    return tools


def read_choice(value: Any, where: str) -> Any:
    """``tool_choice``. Raises BadField."""
    if value in ("none", "auto", "required"):
        return value
    function = value.get("function") if isinstance(value, dict) else None
    if (
        not isinstance(function, dict)
        or not isinstance(function.get("name"), str)
        or value.get("type") not in (None, "function")
    ):
        raise BadField(
            where, 'must be none, auto, required or {"type": "function", "function": {"name": "…"}}'
        )
    return {"type": "function", "function": {"name": read_name(function["name"], f"{where}.function.name")}}


def _described(value: dict[str, Any], schema: str, where: str, repeat: int) -> dict[str, Any]:
    """Name, description, strict, and the schema under its field's name; what is null is left out."""
    kept: dict[str, Any] = {"name": read_name(value.get("name"), f"{where}.name")}
    if value.get("description") is not None:
        kept["description"] = read_text(value["description"], f"{where}.description")
    if value.get("strict") is not None:
        if not isinstance(value["strict"], bool):
            raise BadField(f"{where}.strict", "must be true or false")
        kept["strict"] = value["strict"]
    if value.get(schema) is not None:
        kept[schema] = read_schema(value[schema], f"{where}.{schema}", repeat)
    return kept
