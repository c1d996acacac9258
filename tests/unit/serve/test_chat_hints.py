"""Fields of OpenAI's API that change nothing here: the default is taken, more is refused by name."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from serve.chat_request import ChatRequest, parse_chat
from serve.errors import BadField
from serve.settings import GatewaySettings

GOOD: dict[str, Any] = {"model": "heed", "messages": [{"role": "user", "content": "hi"}]}


def parse(**more: Any) -> ChatRequest:
    return parse_chat(orjson.dumps({**GOOD, **more}), GatewaySettings())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("modalities", ["text"]),
        ("prediction", {"type": "content", "content": "x = 1"}),
        ("prediction", {"type": "content", "content": [{"type": "text", "text": "x = 1"}]}),
        ("prompt_cache_key", "session-1"),
        ("prompt_cache_options", {"mode": "implicit", "ttl": "30m"}),
        ("prompt_cache_retention", "24h"),
        ("service_tier", "auto"),
        ("service_tier", "default"),
        ("verbosity", "medium"),
        ("audio", None),
        ("functions", None),
        ("stream_options", {"include_obfuscation": False}),
        ("tools", []),
    ],
)
def test_what_asks_for_nothing_special_is_taken_and_reaches_no_engine(field: str, value: Any) -> None:
    request = parse(**{field: value})
    assert orjson.loads(request.engine_body("base", request.messages, {})) == {**GOOD, "model": "base"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("functions", [{"name": "f"}]),
        ("function_call", "auto"),
        ("modalities", ["text", "audio"]),
        ("moderation", {"model": "m"}),
        ("prompt_cache_options", {"mode": "explicit"}),
        ("prompt_cache_retention", "for ever"),
        ("service_tier", "priority"),
        ("verbosity", "low"),
        ("web_search_options", {}),
    ],
)
def test_what_is_not_given_here_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(BadField) as caught:
        parse(**{field: value})
    assert (caught.value.param, caught.value.code) == (field, "unsupported_parameter")


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("prediction", "x = 1", "prediction"),
        ("prediction", {"type": "content", "content": 5}, "prediction.content"),
        ("prompt_cache_key", "x" * 257, "prompt_cache_key"),
        ("reasoning_effort", "extreme", "reasoning_effort"),
        ("reasoning_effort", ["low"], "reasoning_effort"),
        ("stream_options", {"include_obfuscation": True}, "stream_options.include_obfuscation"),
        ("top_k", 0.5, "top_k"),
        ("min_p", 1.5, "min_p"),
        ("repetition_penalty", 0, "repetition_penalty"),
        ("ignore_eos", 1, "ignore_eos"),
    ],
)
def test_a_malformed_value_is_named(field: str, value: Any, named: str) -> None:
    with pytest.raises(BadField) as caught:
        parse(**{field: value})
    assert (caught.value.param, caught.value.code) == (named, "invalid_value")


@pytest.mark.parametrize(
    ("field", "value"),
    [("reasoning_effort", "low"), ("top_k", 40), ("min_p", 0.05), ("repetition_penalty", 1.1)],
)
def test_what_the_engine_understands_is_passed_on(field: str, value: Any) -> None:
    request = parse(**{field: value})
    assert orjson.loads(request.engine_body("base", request.messages, {}))[field] == value


def test_a_reply_made_to_run_past_its_end_is_not_stored() -> None:
    assert not parse(ignore_eos=True, store=True).stored
    assert parse(ignore_eos=False).stored
