from __future__ import annotations

import pytest

from benchmarks.failover import Reply, figures, finishes, judged, ready_in

ALONE = {("heed:a-1", "Hi?"): "red green", ("heed:base", "Hi?"): "hello"}


def reply(
    model: str = "a-1",
    engine: str = "engine-0",
    text: str = "red green",
    complete: bool = True,
    ended: float = 2.0,
    pause: float = 0.1,
) -> Reply:
    return Reply(
        (f"heed:{model}", "Hi?"),
        model,
        engine,
        text,
        complete,
        1.0,
        ended,
        pause,
        "" if complete else "502 x",
    )


def test_replies_are_counted_that_end_say_the_same_and_were_on_the_killed_engine() -> None:
    replies = [
        reply(pause=0.25),
        reply("base", text="hello", ended=1.4),
        reply(text="red", complete=False),
        reply(engine="engine-1", pause=9.0),
    ]
    assert judged(replies, ALONE, "engine-0", 1.5) == {
        "streams": 4, "complete": 3, "same": 3, "same_adapter": True, "faults": ["502 x"],
        "interrupted": 2, "longest_pause_ms": 250,
    }  # fmt: skip


def test_a_reply_of_another_adapter_is_told() -> None:
    other = Reply(("heed:a-1", "Hi?"), "base", "engine-0", "hello", True, 1.0, 2.0, 0.0, "")
    assert judged([reply(), other], ALONE)["same_adapter"] is False
    assert judged([reply(), other], ALONE)["same"] == 1


@pytest.mark.parametrize(
    ("event", "ends"),
    [
        ({"choices": [{"finish_reason": "stop"}]}, True),
        ({"choices": [{"finish_reason": None}]}, False),
        ({"choices": []}, False),
        ({"error": {}}, False),
    ],
)
def test_only_a_reason_finishes_a_reply(event: dict[str, object], ends: bool) -> None:
    assert finishes(event) is ends


def test_an_adapter_is_ready_only_on_the_engine_whose_metric_says_so() -> None:
    metrics = (
        'heed_engine_adapter_ready{adapter="a-1",engine="engine-0"} 1.0\n'
        'heed_engine_adapter_ready{adapter="a-1",engine="engine-1"} 0.0\n'
    )
    assert ready_in(metrics, "engine-0", "a-1")
    assert not ready_in(metrics, "engine-1", "a-1")
    assert not ready_in(metrics, "engine-0", "a-2")


def test_figures_sum_the_rounds_with_a_kill_and_leave_the_control_beside() -> None:
    row = {"streams": 100, "complete": 100, "same": 99, "interrupted": 7, "longest_pause_ms": 120}
    rows = [
        {"killed": "none", **row, "same": 98},
        {"killed": "engine-0", **row, "adapter_back_seconds": 0.6},
        {"killed": "engine-1", **row, "longest_pause_ms": 300, "adapter_back_seconds": 1.25},
    ]
    kills, back = figures(rows)
    assert kills.heed == "200 of 200; 198"
    assert kills.beside == (
        "14 were coming from it, held up 300 ms at most; without a kill 98 of 100 are the same"
    )
    assert back.heed == "1.2 s"


def test_rounds_in_which_a_core_hung_have_a_line_of_their_own() -> None:
    row = {"streams": 100, "complete": 100, "same": 99, "interrupted": 7, "longest_pause_ms": 120}
    rows = [
        {"killed": "none", **row},
        {"killed": "engine-0", **row, "adapter_back_seconds": 0.6},
        {"hung": "engine-1", **row, "same": 97, "longest_pause_ms": 31_400, "adapter_back_seconds": 9.0},
    ]
    kills, back, hang = figures(rows)
    assert kills.heed == "100 of 100; 99"
    assert back.heed == "0.6 s"
    assert hang.heed == "100 of 100; 97"
    assert hang.beside == ("7 were coming from it, held up 31 s at most (HEED_ENGINE_STALL_SECONDS is 30)")
