"""Messages as SDKs and frameworks send them back: a reply's own fields are understood, the rest is refused."""

from __future__ import annotations

from typing import Any

import pytest

from serve.chat_messages import read_message
from serve.errors import BadField

CALL = {"id": "call-1", "type": "function", "function": {"name": "hours", "arguments": "{}"}}


def test_a_reply_with_every_field_an_sdk_dumps_is_its_text() -> None:
    dumped = {
        "role": "assistant",
        "content": "hello",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": [],
        "reasoning": "a greeting is due",
        "reasoning_content": None,
    }
    assert read_message(dumped, "m") == {"role": "assistant", "content": "hello"}


def test_a_call_without_text_keeps_the_call() -> None:
    sent = {"role": "assistant", "content": None, "tool_calls": [{**CALL, "index": 0}]}
    assert read_message(sent, "m") == {"role": "assistant", "content": None, "tool_calls": [CALL]}


def test_a_refusal_is_the_text_where_there_is_no_other() -> None:
    assert read_message({"role": "assistant", "refusal": "no", "content": None}, "m")["content"] == "no"
    assert read_message({"role": "assistant", "content": "yes", "refusal": "no"}, "m")["content"] == "yes"
    part = {"type": "refusal", "refusal": "no"}
    assert read_message({"role": "assistant", "content": [part]}, "m")["content"] == "no"


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ({"role": "user", "content": "x", "tool_calls": [CALL]}, "m.tool_calls"),
        ({"role": "user", "content": "x", "refusal": "no"}, "m.refusal"),
        ({"role": "user", "content": "x", "tool_call_id": "call-1"}, "m.tool_call_id"),
        ({"role": "assistant", "content": "x", "audio": {"id": "a"}}, "m.audio"),
        ({"role": "assistant", "content": "x", "function_call": {"name": "f"}}, "m.function_call"),
        ({"role": "assistant", "content": "x", "annotations": "y"}, "m.annotations"),
        ({"role": "assistant", "content": "x", "refusal": 5}, "m.refusal"),
        ({"role": "assistant", "content": "x", "reasoning": 5}, "m.reasoning"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "m.content"),
        ({"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}, "m.tool_calls[0].type"),
        ({"role": "user", "content": [{"type": ["text"], "text": "x"}]}, "m.content[0]"),
    ],
)
def test_a_field_of_another_role_or_shape_is_named(sent: dict[str, Any], named: str) -> None:
    with pytest.raises(BadField) as caught:
        read_message(sent, "m")
    assert caught.value.param == named
