"""A client's JSON schemas, within what an engine can make a grammar of, and soon.

The bounds are measured on xgrammar, vLLM's compiler: it takes seconds for a thousand properties of one object or
a few dozen patterns that repeat a thousand times, while other schemas wait, and vLLM answers 500 where it gives up.
Whether a schema makes sense is the engine's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any
from urllib.parse import unquote

import orjson

from serve.chat_messages import is_within
from serve.errors import BadField

MAX_NESTING = 64  # levels
MAX_PARTS = 2_000  # keys and list items of one schema
MAX_PROPERTIES = 256  # of one object; the time grows faster than with their square
MAX_LITERALS = 16_000  # characters of all values under enum and const, and of all properties' names
MAX_PATTERNS, MAX_PATTERN_LENGTH = 32, 256
MAX_REPEATS = 10_000  # the sum of all counts in a schema's patterns, as 5 in ``a{2,5}``
MAX_REPEAT = 128  # the largest count of a response format's; xgrammar gives up somewhat above
MAX_REPEAT_OF_TOOLS = 2_048  # a tool's patterns are mostly shown to the model, not enforced
_COUNT = re.compile(r"\{(\d*),?(\d*)\}")


def read_schema(value: Any, where: str, repeat: int = MAX_REPEAT) -> dict[str, Any]:
    """The schema as it is. Raises BadField; ``repeat`` is the largest count that a pattern may have."""
    if not isinstance(value, dict):
        raise BadField(where, "must be an object")
    if size_of(value, MAX_PARTS) > MAX_PARTS:  # before all else, which takes longer
        raise BadField(where, f"has over {MAX_PARTS} keys and items")
    if not is_within(MAX_NESTING, value):
        raise BadField(where, f"is nested deeper than {MAX_NESTING} levels")
    if any(len(named) > MAX_PROPERTIES for named in _under("properties", value)):
        raise BadField(where, f"has an object of over {MAX_PROPERTIES} properties")
    if literals_of(value) > MAX_LITERALS:
        raise BadField(where, f"has over {MAX_LITERALS} characters under enum and const and in names")
    _check_patterns(list(_patterns(value)), where, repeat)
    if _circles(value):
        raise BadField(where, "has a $ref that leads back to itself with nothing between")
    return value


def size_of(value: Any, most: int) -> int:
    """Keys and list items, at all levels; counted up to somewhat over ``most``."""
    size = 0
    for one in _containers(value):
        size += len(one)
        if size > most:
            break
    return size


def literals_of(value: Any) -> int:
    """Characters, as JSON, that a reply has to repeat letter by letter: each is a rule of the grammar."""
    size = 0
    for one in _containers(value):
        if isinstance(one, dict):
            size += sum(len(orjson.dumps(one[name])) for name in ("enum", "const") if name in one)
    return size + sum(len(name) for named in _under("properties", value) for name in named)


def _check_patterns(patterns: list[str], where: str, repeat: int) -> None:
    if len(patterns) > MAX_PATTERNS or any(len(pattern) > MAX_PATTERN_LENGTH for pattern in patterns):
        raise BadField(
            where, f"has over {MAX_PATTERNS} patterns, or one of over {MAX_PATTERN_LENGTH} characters"
        )
    if any("\0" in pattern for pattern in patterns):
        raise BadField(where, "has a pattern with a null character")
    counts = [int(count) for one in patterns for pair in _COUNT.findall(one) for count in pair if count]
    if max(counts, default=0) > repeat or sum(counts) > MAX_REPEATS:
        raise BadField(
            where,
            f"has a pattern that repeats over {repeat} times; lengths are said by minLength and maxLength",
        )


def _containers(value: Any) -> Iterator[dict[str, Any] | list[Any]]:
    """Every object and list in the value, and the value itself."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        yield one
        parts = one.values() if isinstance(one, dict) else one
        waiting.extend(part for part in parts if isinstance(part, dict | list))


def _under(name: str, value: Any) -> Iterator[dict[str, Any]]:
    """The objects that stand under that key, anywhere."""
    for one in _containers(value):
        if isinstance(one, dict) and isinstance(one.get(name), dict):
            yield one[name]


def _patterns(value: Any) -> Iterator[str]:
    """The regular expressions of a schema: ``pattern``, and the keys of ``patternProperties``."""
    for one in _containers(value):
        if isinstance(one, dict) and isinstance(one.get("pattern"), str):
            yield one["pattern"]
    for named in _under("patternProperties", value):
        yield from named


def _circles(root: dict[str, Any]) -> bool:
    """Whether some part describes the very value that it is part of: nothing but references and choices on
    the way round. Through an item or a property a schema may hold itself.
    """
    graph = {id(one): _same_value(one, root) for one in _containers(root) if isinstance(one, dict)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError:
        return True
    return False


def _same_value(part: dict[str, Any], root: dict[str, Any]) -> list[int]:
    """The schemas, as ids, that describe the same value as the part does."""
    others = [_target(part["$ref"], root)] if isinstance(part.get("$ref"), str) else []
    for name in ("anyOf", "oneOf", "allOf"):
        others += part[name] if isinstance(part.get(name), list) else []
    return [id(one) for one in others if isinstance(one, dict)]


def _target(reference: str, root: dict[str, Any]) -> Any:
    """What a reference within the schema leads to; None for any other."""
    if not reference.startswith("#"):
        return None
    at: Any = root
    for step in reference.split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(at, dict):
            at = at.get(name)
        elif isinstance(at, list) and name.isdecimal() and len(name) < 5 and int(name) < len(at):
            at = at[int(name)]
        else:
            return None
    return at
