"""Tools, the choice among them, and response formats: the parts of a chat that carry a client's JSON schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from serve.chat_messages import MAX_TOOLS, is_within, read_name, read_text
from serve.errors import BadField

# An engine compiles a schema into a grammar, and xgrammar takes seconds for a few thousand properties or a few
# dozen patterns that repeat, while others wait.
MAX_NESTING = 64  # levels
MAX_PARTS = 2_000  # keys and list items of one schema
MAX_PARTS_OF_TOOLS = 10_000  # of all tools' schemas
MAX_PATTERNS, MAX_PATTERN_LENGTH = 32, 256
MAX_REPEATS = 1_000  # the sum of all counts in a schema's patterns, as 5 in ``a{2,5}``
_COUNT = re.compile(r"\{(\d*),?(\d*)\}")


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
    kept = _described(schema, "schema", f"{where}.{kind}")
    if "schema" not in kept:
        raise BadField(f"{where}.{kind}.schema", "must be an object")
    return {"type": kind, kind: kept}


def read_tools(value: Any, where: str) -> list[dict[str, Any]]:
    """``tools``, built fresh of the fields that are known. Raises BadField."""
    if not isinstance(value, list) or len(value) > MAX_TOOLS:
        raise BadField(where, f"must be a list of at most {MAX_TOOLS} tools")
    tools: list[dict[str, Any]] = []
    for index, tool in enumerate(value):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type") != "function":
            raise BadField(f"{where}[{index}]", 'must be {"type": "function", "function": {…}}')
        kept = _described(function, "parameters", f"{where}[{index}].function")
        tools.append({"type": "function", "function": kept})
    if sum(_size(tool["function"].get("parameters", {})) for tool in tools) > MAX_PARTS_OF_TOOLS:
        raise BadField(where, f"have schemas of over {MAX_PARTS_OF_TOOLS} keys and items together")
    return tools


def read_choice(value: Any, where: str) -> Any:
    """``tool_choice``. Raises BadField."""
    if value in ("none", "auto", "required"):
        return value
    function = value.get("function") if isinstance(value, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadField(
            where, 'must be none, auto, required or {"type": "function", "function": {"name": "…"}}'
        )
    return {"type": "function", "function": {"name": read_name(function["name"], f"{where}.function.name")}}


def _described(value: dict[str, Any], schema: str, where: str) -> dict[str, Any]:
    """Name, description, strict, and the schema under its field's name; what is null is left out."""
    kept: dict[str, Any] = {"name": read_name(value.get("name"), f"{where}.name")}
    if value.get("description") is not None:
        kept["description"] = read_text(value["description"], f"{where}.description")
    if value.get("strict") is not None:
        if not isinstance(value["strict"], bool):
            raise BadField(f"{where}.strict", "must be true or false")
        kept["strict"] = value["strict"]
    if value.get(schema) is not None:
        kept[schema] = _schema(value[schema], f"{where}.{schema}")
    return kept


def _schema(value: Any, where: str) -> dict[str, Any]:
    """A JSON schema that an engine can compile soon. Whether it makes sense is the engine's to say."""
    if not isinstance(value, dict):
        raise BadField(where, "must be an object")
    if not is_within(MAX_NESTING, value):
        raise BadField(where, f"is nested deeper than {MAX_NESTING} levels")
    if _size(value) > MAX_PARTS:
        raise BadField(where, f"has over {MAX_PARTS} keys and items")
    patterns = list(_patterns(value))
    if len(patterns) > MAX_PATTERNS or any(len(pattern) > MAX_PATTERN_LENGTH for pattern in patterns):
        raise BadField(
            where, f"has over {MAX_PATTERNS} patterns, or one of over {MAX_PATTERN_LENGTH} characters"
        )
    counts = (
        int(count) for pattern in patterns for pair in _COUNT.findall(pattern) for count in pair if count
    )
    if sum(counts) > MAX_REPEATS:
        raise BadField(where, f"has patterns that repeat over {MAX_REPEATS} times in all")
    return value


def _containers(value: Any) -> Iterator[dict[str, Any] | list[Any]]:
    """Every object and list in the value, and the value itself."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        yield one
        parts = one.values() if isinstance(one, dict) else one
        waiting.extend(part for part in parts if isinstance(part, dict | list))


def _size(value: Any) -> int:
    return sum(len(one) for one in _containers(value))


def _patterns(value: Any) -> Iterator[str]:
    """The regular expressions of a schema: ``pattern``, and the keys of ``patternProperties``."""
    for one in _containers(value):
        if isinstance(one, dict):
            pattern, named = one.get("pattern"), one.get("patternProperties")
            yield from [pattern] if isinstance(pattern, str) else []
            yield from named if isinstance(named, dict) else []
