"""The chat's body: what is taken, what is refused, and which field is named."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.chat_messages import with_guidelines
from serve.chat_request import checked_sampling, parse_chat
from serve.errors import BadField
from serve.settings import GatewaySettings

SETTINGS = GatewaySettings(max_messages=4, max_tokens_cap=1000)
GOOD: dict[str, Any] = {"model": "heed", "messages": [{"role": "user", "content": "hi"}]}


def nested(levels: int) -> dict[str, Any]:
    """An object within an object, and so on."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"properties": value}
    return value


def parse(**more: Any) -> Any:
    return parse_chat(json.dumps({**GOOD, **more}).encode(), SETTINGS)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("n", 2, "n"),
        ("n", 16384, "n"),
        ("max_tokens", 0, "max_tokens"),
        ("max_tokens", 1001, "max_tokens"),
        ("max_tokens", "5", "max_tokens"),
        ("max_completion_tokens", 1001, "max_completion_tokens"),
        ("temperature", 2.1, "temperature"),
        ("temperature", True, "temperature"),
        ("top_p", 0, "top_p"),
        ("seed", 2**63, "seed"),
        ("seed", 2.0**60, "seed"),
        ("max_tokens", 5.5, "max_tokens"),
        ("stop", ["a"] * 5, "stop"),
        ("stop", [""], "stop"),
        ("stop", "x" * 257, "stop"),
        ("logit_bias", {str(n): 1 for n in range(301)}, "logit_bias"),
        ("logit_bias", {"x": 1}, "logit_bias.x"),
        ("logit_bias", {"5": 101}, "logit_bias.5"),
        ("top_logprobs", 21, "top_logprobs"),
        ("top_logprobs", 2, "top_logprobs"),
        ("stream", "yes", "stream"),
        ("stream_options", {"continuous_usage_stats": True}, "stream_options"),
        ("response_format", {"type": "structural_tag"}, "response_format"),
        ("response_format", {"type": "json_schema"}, "response_format.json_schema"),
        ("response_format", {"type": ["text"]}, "response_format"),
        ("tools", [{"type": "function"}], "tools[0]"),
        ("tools", [{"type": "function", "function": {}}], "tools[0].function.name"),
        (
            "tools",
            [{"type": "function", "function": {"name": "f", "parameters": []}}],
            "tools[0].function.parameters",
        ),
        (
            "tools",
            [{"type": "function", "function": {"name": "f", "description": 5}}],
            "tools[0].function.description",
        ),
        (
            "tools",
            [{"type": "function", "function": {"name": "f", "parameters": nested(65)}}],
            "tools[0].function.parameters",
        ),
        (
            "response_format",
            {"type": "json_schema", "json_schema": {"schema": {}}},
            "response_format.json_schema.name",
        ),
        (
            "response_format",
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "strict": 1}},
            "response_format.json_schema.strict",
        ),
        (
            "response_format",
            {"type": "json_schema", "json_schema": {"name": "x", "schema": nested(65)}},
            "response_format.json_schema.schema",
        ),
        (
            "response_format",
            {"type": "json_schema", "json_schema": {"name": "x"}},
            "response_format.json_schema.schema",
        ),
        ("tool_choice", "auto", "tool_choice"),
        ("user", "", "user"),
        ("user", "x" * 257, "user"),
        ("safety_identifier", 5, "safety_identifier"),
        ("store", 1, "store"),
        ("metadata", {"a": 1}, "metadata"),
        ("messages", [], "messages"),
        ("messages", None, "messages"),
        ("messages", "hi", "messages"),
        ("messages", [{"role": "user", "content": "x"}] * 5, "messages"),
        ("messages", [{"role": "robot", "content": "x"}], "messages[0].role"),
        ("messages", [{"role": ["user"], "content": "x"}], "messages[0].role"),
        ("messages", [{"role": "user"}], "messages[0].content"),
        ("messages", [{"role": "user", "content": 5}], "messages[0].content"),
        (
            "messages",
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}],
            "messages[0].content[0]",
        ),
        ("messages", [{"role": "user", "content": "x", "prefix": True}], "messages[0].prefix"),
        ("model", "", "model"),
        ("model", None, "model"),
        ("model", "heed:", "model"),
        ("chat_template", "{{ x }}", "chat_template"),
        ("chat_template_kwargs", {}, "chat_template_kwargs"),
        ("priority", -5, "priority"),
        ("prompt_logprobs", 1, "prompt_logprobs"),
        ("best_of", 3, "best_of"),
        ("request_id", "x", "request_id"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: Any, named: str) -> None:
    with pytest.raises(BadField) as caught:
        parse(**{field: value})
    assert caught.value.param == named
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("field", "value", "sent"),
    [
        ("max_tokens", 5, {"max_tokens": 5}),
        ("max_completion_tokens", 5, {"max_tokens": 5}),
        ("max_completion_tokens", 5.0, {"max_tokens": 5}),
        ("temperature", 0, {"temperature": 0}),
        ("stop", "x", {"stop": ["x"]}),
        ("logit_bias", {"5": -100}, {"logit_bias": {"5": -100}}),
        ("n", 1, {}),
        ("user", "alice", {}),
        ("safety_identifier", "alice", {}),
        ("metadata", {"a": "b"}, {}),
        ("store", False, {}),
        ("temperature", None, {}),
        (
            "response_format",
            {"type": "json_object", "extra": 1},
            {"response_format": {"type": "json_object"}},
        ),
    ],
)
def test_what_is_sent_to_the_engine(field: str, value: Any, sent: dict[str, Any]) -> None:
    request = parse(**{field: value})
    body = orjson.loads(request.engine_body("base", request.messages, {}))
    assert body == {"model": "base", "messages": [{"role": "user", "content": "hi"}], **sent}


def test_a_stream_always_asks_the_engine_for_usage() -> None:
    request = parse(stream=True)
    body = orjson.loads(request.engine_body("base", request.messages, {}))
    assert body["stream_options"] == {"include_usage": True}
    assert not request.include_usage


def test_text_parts_become_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert parse(messages=[{"role": "developer", "content": parts}]).messages == [
        {"role": "system", "content": "ab"}
    ]


def test_a_reply_as_the_sdk_dumps_it_can_be_sent_back() -> None:
    dumped = {"role": "assistant", "content": "hello", "refusal": None, "tool_calls": None, "name": None}
    assert parse(messages=[dumped]).messages == [{"role": "assistant", "content": "hello"}]


def test_a_schema_may_be_nested_as_deep_as_anybody_writes_one() -> None:
    schema = nested(64)
    told = parse(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
    assert told.sampling["response_format"]["json_schema"] == {"name": "x", "schema": schema}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 3),
        ("temperature", True),
        ("max_tokens", 10**30),
        ("seed", 1.5),
        ("n", 1),
        ("top_p", 0),
    ],
)
def test_an_arms_sampling_is_bounded_as_a_chats_is(name: str, value: Any) -> None:
    with pytest.raises(BadField) as caught:
        checked_sampling({name: value}, SETTINGS)
    assert caught.value.param == name


def test_an_arms_good_sampling_is_taken_as_it_is() -> None:
    sampling = {"temperature": 1.2, "max_tokens": 50, "seed": 7}
    assert checked_sampling(sampling, SETTINGS) == sampling


def test_an_arms_sampling_overrides_the_clients() -> None:
    request = parse(temperature=0.2, seed=5)
    assert request.logged_sampling({"temperature": 0.9}) == {"temperature": 0.9, "seed": 5}


def test_guidelines_stand_alone_or_join_the_clients_system_message() -> None:
    user = {"role": "user", "content": "hi"}
    assert with_guidelines([user], "") == [user]
    assert with_guidelines([user], "Be kind.") == [{"role": "system", "content": "Be kind."}, user]
    system = {"role": "system", "content": "Rhyme."}
    assert with_guidelines([system, user], "Be kind.")[0]["content"] == "Be kind.\n\nRhyme."


@pytest.mark.parametrize("data", [b"", b"[]", b"5", b"{", b'"x"', b"\xff"])
def test_a_body_that_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(BadField) as caught:
        parse_chat(data, SETTINGS)
    assert caught.value.param == "body"


json_st = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "messages",
    "model",
    "stream",
    "stop",
    "tools",
    "tool_choice",
    "logit_bias",
    "response_format",
    "metadata",
]


@given(st.dictionaries(st.sampled_from([*FIELDS, "user", "n", "seed", "top_p"]), json_st))
def test_no_body_does_anything_but_parse_or_name_a_field(body: dict[str, Any]) -> None:
    try:
        parse_chat(orjson.dumps({**GOOD, **body}), SETTINGS)
    except BadField as error:
        named = str(error.param).partition(".")[0].partition("[")[0]
        assert named in {*GOOD, *body}


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (None, "missing_required_parameter"),
        ("", "invalid_value"),
        (5, "invalid_value"),
        ([], "invalid_value"),
    ],
)
def test_a_model_that_is_missing_is_told_from_one_that_is_no_name(model: object, code: str) -> None:
    with pytest.raises(BadField) as caught:
        parse_chat(orjson.dumps({**GOOD, "model": model}), SETTINGS)
    assert (caught.value.param, caught.value.code) == ("model", code)
