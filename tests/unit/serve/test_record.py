"""What is kept of a response while it streams: bounded, and enough for its event."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve import record as module
from serve.chat_request import ChatRequest
from serve.errors import EngineGarbled
from serve.exchange import Exchange
from serve.record import CLIENT_LEFT, COPY_BYTES, UNREAD_BYTES, Record, whole_body
from serve.routing import Plan
from tests.unit.serve.line import Line

ENGINE = {"id": "chatcmpl-1", "created": 7, "model": "base"}


def record(*, stored: bool = True, **more: Any) -> Record:
    request = ChatRequest("heed", [{"role": "user", "content": "hi"}], stored=stored, stream=True)
    made = Record(request, Plan("heed", "a-1"), "chatcmpl-1", "s-1", **more)
    made.messages = request.messages
    return made


def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    return b"data: " + orjson.dumps({**ENGINE, "choices": choices, **more}) + b"\n\n"


def said(text: str) -> bytes:
    return event([{"index": 0, "delta": {"content": text}, "finish_reason": None}])


ENDING = event([{"index": 0, "delta": {}, "finish_reason": "stop"}]) + event(
    [], usage={"prompt_tokens": 3, "completion_tokens": 9}
)


@given(st.lists(st.text(max_size=40), max_size=30), st.integers(1, 5))
def test_the_event_has_all_that_was_passed_on(words: list[str], each: int) -> None:
    made = record()
    for start in range(0, len(words), each):
        made.keep(b"".join(map(said, words[start : start + each])))
    made.keep(ENDING)
    got = made.event()
    assert (got.text, got.finish_reason) == ("".join(words), "stop")
    assert (got.prompt_tokens, got.completion_tokens) == (3, 9)
    assert made.read() is made.reply


def test_events_are_kept_as_they_came_up_to_a_bound_and_then_read() -> None:
    made, most = record(), 0
    for _ in range(1000):
        made.keep(said("x" * 100))
        most = max(most, sum(map(len, made._unread)))
    assert most <= UNREAD_BYTES
    assert made._unread_bytes == sum(map(len, made._unread))
    assert made.read().text == "x" * 100_000
    assert made._unread == []


def test_a_very_long_reply_loses_its_text_and_keeps_its_counts() -> None:
    made = record()
    piece = said("x" * 10_000)
    for _ in range(COPY_BYTES // len(piece)):
        made.keep(piece)
    assert made.may_go_on
    assert len(made.read().text) > 4_000_000
    for _ in range(10):
        made.keep(piece)
    assert not made.may_go_on
    assert made.read().text == ""
    made.keep(ENDING)
    got = made.event()
    assert (got.text, got.finish_reason, got.completion_tokens) == ("", "stop", 9)


def test_a_long_replys_tokens_do_not_stay_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COPY_BYTES", 100)
    made = record()
    made.keep(event([{"delta": {"content": "a" * 100}, "token_ids": [1, 2]}], prompt_token_ids=[7]))
    reply = made.read()
    assert (reply.token_ids, reply.prompt_token_ids, reply.strands()) == ([], [], {})


def test_what_is_not_to_be_stored_has_no_words() -> None:
    made = record(stored=False)
    made.keep(said("secret") + ENDING)
    got = made.event()
    assert (got.stored, got.text, got.messages) == (False, "", ())
    assert got.completion_tokens == 9


@pytest.mark.parametrize(("code", "logged"), [(200, 200), (CLIENT_LEFT, 200), (502, 502)])
def test_a_client_that_left_is_not_logged_as_a_failure(code: int, logged: int) -> None:
    made = record()
    made.code = code
    assert made.event().code == logged


@pytest.mark.parametrize(
    ("code", "came", "spent"),
    [
        (CLIENT_LEFT, said("a ") + said("b ") * 2, (2, 3)),  # the prompt is of 10 bytes
        (CLIENT_LEFT, event([{"delta": {"content": "a"}}], prompt_token_ids=[7] * 5), (5, 1)),
        (CLIENT_LEFT, said("a ") + ENDING, (3, 9)),
        (CLIENT_LEFT, b"", (2, 0)),
        (502, said("a "), (0, 0)),
        (200, said("a ") + ENDING, (3, 9)),
    ],
)
def test_who_leaves_before_the_engine_tells_the_tokens_is_charged_what_came(
    code: int, came: bytes, spent: tuple[int, int]
) -> None:
    made = record()
    made.messages = [{"role": "user", "content": "ten bytes!"}]
    made.code = code
    made.ask(Line().ask())
    if came:
        made.keep(came)
    assert made.spent() == spent
    assert (made.event().prompt_tokens, made.event().completion_tokens) == spent


def test_who_leaves_before_an_engine_was_asked_is_charged_nothing() -> None:
    made = record()
    made.messages, made.code = [{"role": "user", "content": "ten bytes!"}], CLIENT_LEFT
    assert made.spent() == (0, 0)


def test_times_are_measured_from_the_beginning_and_never_negative() -> None:
    made = record(began=10.0)
    made.first, made.first_at, made.ended = 10.25, 1700.0, 11.5
    got = made.event()
    assert (got.time, got.time_to_first_token, got.duration) == (1700.0, 0.25, 1.5)
    never = record(began=10.0)
    assert (never.event().time_to_first_token, never.event().duration) == (0.0, 0.0)


def test_leaving_closes_what_is_asked_now_and_what_is_asked_later() -> None:
    lines = [Line(), Line()]
    made = record()
    made.leave()  # before anything was asked
    exchanges: list[Exchange] = [line.ask() for line in lines]
    made.ask(exchanges[0])
    assert lines[0].socket.aborted
    made = record()
    made.ask(exchanges[1])
    assert not lines[1].socket.aborted
    made.leave()
    assert lines[1].socket.aborted
    assert not made.may_go_on


def test_a_whole_body_is_built_fresh() -> None:
    message = {"role": "assistant", "content": "hello", "refusal": None, "reasoning": "hidden"}
    choice = {"index": 5, "message": message, "finish_reason": "stop", "logprobs": None, "stop_reason": 3}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 99}
    made = record()
    told = {**ENGINE, "id": "other", "choices": [choice], "usage": usage, "prompt_logprobs": None}
    body = whole_body(made, orjson.dumps(told))
    assert body == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "heed",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
    assert made.event().text == "hello"


@pytest.mark.parametrize(
    "told",
    [b"", b"{", b"[]", b"{}", b'{"choices":[{}],"created":1}', b'{"choices":[1],"created":1}',
     b'{"choices":[{"message":{}}]}', b'{"choices":null,"created":1}', b'{"choices":[{"message":"x"}],"created":1}',
     b'{"choices":[{"message":{"content":"x"}}],"created":1,"usage":{"prompt_tokens":"x"}}',
     b'{"choices":[{"message":{"tool_calls":[1]}}],"created":1}',
     b'{"choices":[{"message":{"content":"x"},"logprobs":[1]}],"created":1}'],
)  # fmt: skip
def test_a_body_that_is_none_is_garbled(told: bytes) -> None:
    with pytest.raises(EngineGarbled, match="does not parse"):
        whole_body(record(), told)


@pytest.mark.parametrize(
    "junk",
    [b'data: {"choices":[{"delta":"x"}]}\n\n', b'data: {"choices":[1]}\n\n', b'data: {"choices":5}\n\n',
     b'data: {"choices":[],"usage":{"prompt_tokens":"x"}}\n\n', b'data: {"choices":[{"delta":{"content":5}}]}\n\n',
     b'data: {"choices":[{"delta":{"tool_calls":[1]}}]}\n\n', b'data: {"choices":[{"logprobs":[1]}]}\n\n',
     b"data: {\n\n", b": ping\n\n", b"\n\n"],
)  # fmt: skip
def test_events_that_are_no_chat_are_passed_over(junk: bytes) -> None:
    made = record()
    made.keep(said("a") + junk + said("b") + ENDING)
    got = made.event()
    assert (got.text, got.completion_tokens) == ("ab", 9)
