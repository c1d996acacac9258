"""Schemas: what people write passes, and what an engine would choke on is named."""

from __future__ import annotations

import time
from typing import Any

import pytest

from serve.chat_schemas import (
    MAX_LITERALS,
    MAX_REPEAT,
    MAX_REPEAT_OF_TOOLS,
    literals_of,
    read_schema,
    size_of,
)
from serve.errors import BadField

TREE = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        TREE,
        {
            "$defs": {
                "node": {"properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}
            }
        },
        {"$defs": {"a/b": {"type": "string"}}, "properties": {"x": {"$ref": "#/$defs/a~1b"}}},
        {"$defs": {"s": {"type": "string"}}, "anyOf": [{"$ref": "#/$defs/s"}, {"$ref": "#/$defs/s"}]},
        {"$ref": "#/nowhere"},
        {"type": "string", "pattern": r"^[A-Z]{2}\d{2,30}$"},
        {"properties": {"pattern": {"type": "string"}, "$ref": {"type": "string"}}},
        {"properties": {f"p{n}": {"type": "string"} for n in range(256)}},
    ],
)
def test_a_schema_that_people_write_passes_as_it_is(schema: dict[str, Any]) -> None:
    assert read_schema(schema, "schema") is schema


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ([], "must be an object"),
        ({"$ref": "#"}, "leads back to itself"),
        ({"oneOf": [{"type": "null"}, {"allOf": [{"$ref": "#/oneOf/1"}]}]}, "leads back to itself"),
        ({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}, "leads back to itself"),
        ({"pattern": "a{129}"}, "repeats over 128 times"),
        ({"pattern": "a\0"}, "null character"),
        ({"pattern": "a" * 257}, "over 256 characters"),
        ({"items": {"properties": {f"p{n}": {} for n in range(257)}}}, "over 256 properties"),
        ({"enum": ["a"] * 2000}, "over 2000 keys and items"),
        ({"const": "x" * (MAX_LITERALS - 1)}, "over 16000 characters"),
        ({"items": {"properties": {"x" * MAX_LITERALS + "y": {}}}}, "over 16000 characters"),
    ],
)
def test_a_schema_that_an_engine_would_choke_on_is_named(schema: Any, why: str) -> None:
    with pytest.raises(BadField, match=why) as caught:
        read_schema(schema, "schema")
    assert caught.value.param == "schema"


def test_a_tools_pattern_may_repeat_more_often() -> None:
    schema = {"pattern": f"a{{1,{MAX_REPEAT_OF_TOOLS}}}"}
    assert read_schema(schema, "parameters", MAX_REPEAT_OF_TOOLS) is schema
    with pytest.raises(BadField, match="repeats"):
        read_schema(schema, "parameters", MAX_REPEAT)


def test_what_has_to_be_repeated_letter_by_letter_is_counted_as_json() -> None:
    assert literals_of({"description": "x" * 99, "pattern": "x" * 99, "default": "x" * 99}) == 0
    assert literals_of({"const": "abc"}) == 5
    assert literals_of({"anyOf": [{"enum": ["a", 12]}, {"const": {"b": 1}}]}) == 8 + 7
    assert literals_of({"properties": {"abc": {"properties": {"de": {"const": None}}}}}) == 3 + 2 + 4
    whole = {"const": "x" * (MAX_LITERALS - 2)}
    assert read_schema(whole, "schema") is whole


def test_the_size_is_of_all_levels() -> None:
    assert size_of({}, 9) == 0
    assert size_of({"a": {"b": [1, 2, {"c": 3}]}}, 9) == 1 + 1 + 3 + 1
    assert size_of({"a": [[0] * 10] * 10}, 9) == 1 + 10, "it stops where it is enough"


@pytest.mark.parametrize(
    "schema",
    [
        {"$defs": {f"d{n}": {"$ref": f"#/$defs/d{(n + 1) % 990}"} for n in range(990)}},
        {"anyOf": [{"$ref": "#/anyOf/999"}] * 999 + [{"$ref": "#/anyOf/0"}]},
        {"a": [[]] * 200_000},
        {"a": {"b": {str(n): {} for n in range(100_000)}}},
    ],
)
def test_the_worst_schema_takes_no_time_to_refuse(schema: dict[str, Any]) -> None:
    took = []
    for _ in range(3):  # the quickest: other tests' threads count too
        began = time.process_time()
        with pytest.raises(BadField):
            read_schema(schema, "schema")
        took.append(time.process_time() - began)
    assert min(took) < 0.2
