"""The bytes that the gateway is measured with."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks.gateway import percentile
from benchmarks.wire.answer import Reading, Target, request
from benchmarks.wire.upstream import STREAM_HEAD, frames, whole_answer


def streamed(count: int = 30, usage: bool = True, answer_id: bytes = b"abcdef") -> bytes:
    return frames("base", count, usage, False, len(answer_id))[1].replace(b"@" * len(answer_id), answer_id)


def payloads(answer: bytes) -> list[bytes]:
    """The HTTP chunks of an answer; fails where a length is wrong."""
    rest, found = answer.removeprefix(STREAM_HEAD), []
    while rest != b"0\r\n\r\n":
        size, _, rest = rest.partition(b"\r\n")
        found.append(rest[: int(size, 16)])
        assert rest[int(size, 16) :].startswith(b"\r\n")
        rest = rest[int(size, 16) + 2 :]
    return found


def test_an_ordinary_answer_has_34_events_of_which_the_last_says_done() -> None:
    told = payloads(streamed())
    assert len(told) == 34
    assert told[-1] == b"data: [DONE]\n\n"
    assert all(event.startswith(b"data: ") and event.endswith(b"\n\n") for event in told)


def test_every_event_carries_the_id_and_the_words_join_to_the_text_of_a_whole_answer() -> None:
    chunks = [json.loads(event[6:]) for event in payloads(streamed())[:-1]]
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-abcdef"}
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 31
    said = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks[:-1])
    head, _, body = whole_answer("abcdef", "base", 30).partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert json.loads(body)["choices"][0]["message"]["content"] == said


def test_usage_comes_only_when_asked_for() -> None:
    assert len(payloads(streamed(usage=False))) == 33
    assert b'"usage"' not in streamed(usage=False)


@pytest.mark.parametrize("cut", [1, 5, 7, 100, 100_000])
def test_events_are_counted_wherever_the_bytes_are_cut(cut: int) -> None:
    answer, reading = streamed(), Reading()
    found = sum(reading.feed(answer[start : start + cut]) for start in range(0, len(answer), cut))
    assert (found, reading.events, reading.over) == (34, 34, True)
    assert reading.whole(34)
    assert not reading.whole(35)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}",
        streamed().replace(b"[DONE]", b"[GONE]"),
        streamed()[:-20],
    ],
    ids=["refused", "not done", "cut off"],
)
def test_an_answer_that_failed_is_not_whole(answer: bytes) -> None:
    reading = Reading()
    reading.feed(answer)
    assert not reading.whole(1)


def test_a_request_says_how_long_its_body_is_and_whose_key_it_carries() -> None:
    head, _, body = request(Target("x", 1234, "heed", 1, "sk-1"), user="u", max_tokens=7).partition(
        b"\r\n\r\n"
    )
    told = re.search(rb"content-length: (\d+)", head)
    assert told
    assert int(told[1]) == len(body)
    assert b"authorization: Bearer sk-1\r\n" in head
    asked = json.loads(body)
    assert (asked["model"], asked["user"], asked["max_tokens"], asked["stream"]) == ("heed", "u", 7, True)


@pytest.mark.parametrize(
    ("part", "value"), [(0.5, 50.0), (0.99, 99.0), (0.995, 100.0), (1.0, 100.0), (0.01, 1.0)]
)
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(part: float, value: float) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], part) == value
