"""The bytes that the gateway is measured with."""

from __future__ import annotations

import json
import re

import pytest

from benchmarks.gateway import added_rows, figures, rate_row
from benchmarks.results import Row, percentile
from benchmarks.wire.answer import Reading, Target, request
from benchmarks.wire.targets import answered
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


def test_what_is_added_is_counted_from_the_median_without_a_gateway() -> None:
    times = {
        "direct": {"first": [0.001] * 3, "whole": [0.001, 0.002, 0.009]},
        "heed": {"first": [0.002] * 3, "whole": [0.003, 0.003, 0.007]},
    }
    direct, heed = added_rows(times)
    assert (direct["added_p50_ms"], direct["added_p99_ms"]) == (0.0, 7.0)
    assert (heed["target"], heed["requests"], heed["first_p50_ms"]) == ("heed", 3, 2.0)
    assert (heed["added_p50_ms"], heed["added_p99_ms"]) == (1.0, 5.0)


def test_a_rate_is_the_mean_of_its_rounds_and_its_cpu_is_told_for_each_answer_of_34_events() -> None:
    told = {"done": [100.0, 300.0], "failed": 1, "events": 3400, "seconds": 2.0, "cpu": 0.5}
    assert rate_row("heed", told) == {
        "part": "rate", "target": "heed", "per_second": 200.0, "rounds": [100.0, 300.0],
        "failed": 1, "cores": 0.25, "cpu_us": 5000.0,
    }  # fmt: skip


def test_figures_show_heed_with_the_peers_beside_it_and_name_those_that_could_not_be_had() -> None:
    rows: list[Row] = [
        {"part": "absent", "target": "nginx", "why": "no apt-get"},
        {"part": "rate", "target": "direct", "writes": "steps", "per_second": 9000.0, "cpu_us": 1.0},
        {"part": "rate", "target": "heed", "writes": "steps", "per_second": 2000.0, "cpu_us": 400.0},
        {"part": "rate", "target": "heed", "writes": "one", "per_second": 1.0, "cpu_us": 1.0},
        {"part": "rate", "target": "fastapi", "writes": "steps", "per_second": 1500.0, "cpu_us": 500.0},
        {"part": "chunks", "target": "heed", "ordinary_cpu_us": 99.0, "long_cpu_us": 20.0},
        {"part": "streams", "target": "litellm", "streams": 0},
        {"part": "streams", "target": "heed", "streams": 2000, "errors": 3, "kib_a_stream": 49.6},
        {"part": "share", "target": "direct", "share": 1.0},
        {"part": "share", "target": "heed", "share": 0.964},
    ]
    assert [(figure.heed, figure.beside) for figure in figures(rows)] == [
        ("2000 (400 µs)", "fastapi 1500 (500 µs); nginx could not be had"),
        ("20 (99) µs", "nginx could not be had"),
        ("3 errors, 50 KiB each", "litellm not tried; nginx could not be had"),
        ("0.96", "nginx could not be had"),
    ]


def test_answers_that_ended_well_are_summed_over_arms() -> None:
    told = (
        'heed_chat_requests_total{alias="heed",arm="plain",adapter="base",code="200"} 3.0\n'
        'heed_chat_requests_total{alias="heed",arm="warm",adapter="base",code="200"} 4.0\n'
        'heed_chat_requests_total{alias="heed",arm="warm",adapter="base",code="499"} 9.0\n'
    )
    assert answered(told) == 7
