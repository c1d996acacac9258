from __future__ import annotations

from benchmarks.disconnects import figures, running_in, stopped

ROW = {"engine": "vLLM", "target": "heed", "clients": 4}


def test_the_count_of_running_requests_is_read_from_among_others() -> None:
    told = (
        "# HELP vllm:num_requests_running Number of requests.\n"
        'vllm:num_requests_waiting{engine="0",model_name="base"} 7.0\n'
        'vllm:num_requests_running{engine="0",model_name="base"} 2.0\n'
    )
    assert running_in(told) == 2.0


def test_waits_become_milliseconds_and_what_was_never_noticed_is_counted() -> None:
    assert stopped(ROW, [0.010, 0.030, 0.020]) == ROW | {
        "never": 1, "p50_ms": 20.0, "p99_ms": 30.0, "worst_ms": 30.0,
    }  # fmt: skip
    assert stopped(ROW, []) == ROW | {"never": 4, "p50_ms": None, "p99_ms": None, "worst_ms": None}


def test_figures_name_those_that_never_stop() -> None:
    rows = [
        {"part": "absent", "target": "nginx", "why": "no apt-get"},
        stopped(ROW | {"engine": "free of cost"}, [0.001, 0.002, 0.003, 0.004]),
        stopped(ROW | {"engine": "free of cost", "target": "litellm"}, []),
        stopped(ROW, [0.1, 0.2, 0.1]),
    ]
    assert [(figure.heed, figure.beside) for figure in figures(rows)] == [
        ("100 (200) ms, 1 of 4 never", ""),
        ("2 (4) ms", "litellm never, 4 of 4 replies made to the end"),
    ]
