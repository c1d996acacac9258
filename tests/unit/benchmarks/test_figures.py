"""What the README says of rows that were written by hand."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import (
    forgeries,
    forget,
    freshness,
    ledger,
    loop,
    overload,
    redis_memory,
    rounds,
    start,
    swaps,
    votes,
)
from benchmarks.results import Figure, Row

SWAPS: Row = {
    "swaps": 50, "requests": 1000, "failed": 1, "mixed": 2, "misnamed": 3, "crossed": 400,
    "swap_p50_seconds": 0.1, "swap_p95_seconds": 0.25, "first_token_p50_seconds": 0.02,
    "first_token_p95_seconds": 0.05, "calm_replies": 90, "calm_changed": 4, "spliced": 48, "spliced_noticed": 47,
}  # fmt: skip


def told(figures: list[Figure]) -> list[tuple[str, str]]:
    return [(figure.heed, figure.beside) for figure in figures]


def test_swaps_tell_failures_mixtures_and_what_the_controls_saw() -> None:
    assert told(swaps.figures([SWAPS])) == [
        ("1 of 1000", ""),
        ("5 of 999", "controls: 47 of 48 mixed on purpose noticed; 4 of 90 changed without a swap"),
        ("100 (250) ms", "first token of any chat under this load: 20 (50) ms"),
    ]


def test_starts_tell_medians_and_the_worst_of_what_is_left_behind() -> None:
    ups: list[Row] = [
        {"start": name, "to_page": page, "to_reply": reply, "to_stop": 2.0, "processes": 9, "left": left}
        for name, page, reply, left in (
            ("first", 20.0, 70.0, 0),
            ("second", 1.0, 20.0, 2),
            ("second", 3.0, 30.0, 0),
            ("second", 2.0, 25.0, 0),
        )
    ]
    rows = [
        *ups,
        {"start": "plain vLLM", "to_reply": 40.0},
        {"command": "heed --help", "seconds": 0.123, "worst": 0.2, "runs": 9},
        {"command": "import serve.app", "seconds": 0.5, "worst": 0.6, "runs": 9},
    ]
    assert told(start.figures(rows)) == [
        ("70 s", ""),
        ("2 s", ""),
        ("25 s", "plain vLLM, same flags: 40 s"),
        ("2", "gone in 2 s"),
        ("0.123 s", ""),
        ("0.5 s", ""),
    ]


def test_votes_stand_beside_the_bare_store_for_each_number_of_clients() -> None:
    rows: list[Row] = [
        {"way": "gateway", "clients": 32, "per_second": 900.0, "p99_ms": 20.4},
        {"way": "bare XADD", "clients": 32, "per_second": 9000.4},
        {"way": "gateway", "clients": 1, "per_second": 300.6},
        {"way": "bare XADD", "clients": 1, "per_second": 3000.0},
        {"way": "gateway, store away", "clients": 32, "per_second": 800.0, "p99_ms": 30.0},
    ]
    figures = votes.figures(rows)
    assert told(figures) == [
        ("301", "bare XADD, same store, asked from Python: 3000"),
        ("900, p99 20 ms", "bare XADD, same store, asked from Python: 9000"),
        ("800, p99 30 ms", ""),
    ]
    assert "1 client" in figures[0].what
    assert "32 clients" in figures[1].what


def test_a_loop_that_released_nothing_says_so() -> None:
    row: Row = {
        "preference": "brief", "votes": 400, "noise": 0.2, "win_rate": 0.5, "lower": 0.46, "upper": 0.54,
        "prompts": 512, "last_vote_to_live": None, "failed_requests": 0, "chats": 80,
        "first_token_training_p95": 0.05, "first_token_idle_p95": 0.02,
    }  # fmt: skip
    said = told(loop.figures([row]))
    assert said == [
        ("50% [46%, 54%] on 512 prompts, nothing released", "the base: 50%"),
        ("50 ms, 0 of 80 failed", "idle: 20 ms"),
    ]
    live = told(loop.figures([row | {"last_vote_to_live": 181.4}]))[0][0]
    assert live.endswith(", live 181 s after the last vote")


def round_row(name: str, seed: int, votes: int, verdict: str, won: float, knew: float = 0.75) -> Row:
    return {
        "preference": name, "seed": seed, "votes": votes, "noise": 0.25, "verdict": verdict, "win_rate": won,
        "lower": won - 0.04, "upper": won + 0.04, "reward_accuracy": knew,
    }  # fmt: skip


def test_rounds_tell_the_worst_run_of_each_wave_and_the_median_of_each_preference() -> None:
    rows = [
        round_row("brief", 0, 50, "nothing", 0.5),
        round_row("brief", 0, 100, "served", 0.81, 0.8),
        round_row("brief", 1, 50, "served", 0.7),
        round_row("brief", 1, 100, "rejected", 0.7),
        round_row("plain", 0, 50, "served", 0.9, 0.7),
        round_row("plain", 0, 100, "served", 0.8),
    ]
    lines = rounds.figures(rows)
    assert "50 votes, 25% of them wrong, 3 runs" in lines[0].what
    assert told(lines) == [
        (
            "50% (46% to 54%), 70%; 1 runs at 80% or more",
            "the base: 50%; of the rounds 2 published, 0 refused theirs, 1 made none",
        ),
        (
            "70% (66% to 74%), 80%; 2 runs at 80% or more",
            "the base: 50%; of the rounds 2 published, 1 refused theirs, 0 made none",
        ),
        ("60%, 76%", "reward model, unseen pairs told apart: 75%, 78%"),
        ("90%, 80%", "reward model, unseen pairs told apart: 70%, 75%"),
    ]
    assert "`brief`, after 50, 100 votes, median of 2 runs" in lines[2].what


def test_runs_of_rounds_that_ended_half_way_or_heard_other_noise_are_done_again(tmp_path: Path) -> None:
    first = [round_row("brief", 0, votes, "served", 0.8) for votes in (50, 100)]
    half, other = round_row("plain", 0, 50, "served", 0.8), [row | {"noise": 0.2, "seed": 1} for row in first]
    file = tmp_path / "rows"
    file.write_text("".join(json.dumps(row) + "\n" for row in [*first, half, *other]))
    assert rounds.whole(file, [50, 100], 0.25) == {("brief", 0): first}


def test_overload_tells_ratios_refusals_and_what_was_neither() -> None:
    def heard(p99: float, **codes: int) -> Row:
        told = {name.strip("_"): count for name, count in codes.items()}
        return {"codes": told, "without_retry_after": 0, "first_p99_seconds": p99}

    row: Row = {
        "places": 8, "shared": 2, "low": 1, "capacity": 10.0,
        "alone": heard(0.02, _200=100), "overload": heard(0.03, _200=90, _503=2, _599=1),
        "rest": heard(0.05, _200=40, _429=3, _503=50, _408=1), "rollouts": heard(0.022, _200=100),
        "batch": heard(0.1, _200=7),
    }  # fmt: skip
    assert told(overload.figures([row])) == [
        ("30 ms = 1.50 ×; 3 of 93 not served", "without load: 20 ms"),
        (
            "40 served, 53 told 429 or 503 with Retry-After, 1 else",
            "capacity 10.0 chats a second; first token of those served, p99 50 ms",
        ),
        ("22 ms = 1.10 ×", "without load: 20 ms; 7 rollouts served"),
    ]


def test_the_ledger_is_a_line_a_mode_over_all_its_runs() -> None:
    def ran(mode: str, **off: int) -> Row:
        clean = dict.fromkeys(ledger.WRONG, 0)
        return {"mode": mode, "kills": 7, "acknowledged": 1000, "seconds": 4.0, **clean, **off}

    rows = [ran("torn"), ran("kills", missing=2), ran("kills", batch_double=1)]
    assert told(ledger.figures(rows)) == [
        ("3 of 2000", "14 kills, 250 votes a second"),
        ("0 of 1000", "7 kills, 250 votes a second"),
    ]


def test_forgeries_tell_what_got_through_and_how_far_the_times_of_refusals_are_apart() -> None:
    rows: list[Row] = [
        {"kind": "all", "requests": 1000, "accepted": 0, "answers": 1, "noise": 0.01},
        {"kind": "random", "p50_us": 900.0, "p99_us": 2000.0, "distance": 0.02},
        {"kind": "junk", "p50_us": 905.0, "p99_us": 1900.0, "distance": 0.035},
    ]
    assert told(forgeries.figures(rows)) == [
        ("0 of 1000", "1 answer for all unknown ids"),
        ("0.035", "by chance: 0.010; p50 900–905 µs, p99 1900–2000 µs"),
    ]


def test_memory_is_told_of_the_last_part_beside_the_first() -> None:
    rows: list[Row] = [
        {"responses": 200_000, "bytes_each": 212.4, "stream": 0},
        {"responses": 1_000_000, "bytes_each": 209.6, "stream": 0},
    ]
    assert told(redis_memory.figures(rows)) == [("210", "of the first 200,000: 212; in the stream: 0")]


def test_forgetting_tells_the_seconds_until_every_store_is_clean() -> None:
    rows: list[Row] = [{"events": 1_000_000, "seconds": 23.6}]
    assert [figure.what for figure in forget.figures(rows)] == [
        "a subject forgotten among 1,000,000 events, no file holds it"
    ]
    assert told(forget.figures(rows)) == [("24 s", "")]


def test_freshness_counts_what_was_released_and_tells_of_the_rest() -> None:
    wave = {"preference": "brief", "votes": 200, "noise": 0.2, "failed_requests": 0}
    rows: list[Row] = [{**wave, "live": True, "seconds": seconds} for seconds in (90.0, 101.0, 80.0)]
    rows += [{**wave, "live": False, "seconds": 30.0, "failed_requests": 1}, {"chats": 900, "failed": 2}]
    assert told(freshness.figures(rows)) == [
        (
            "101 (90) s",
            "3 of 4 products; 1 released nothing from the last votes, known after 30 s at most; 3 of 900 chats failed",
        )
    ]
    assert freshness.figures(rows[3:])[0].heed == "nothing released"
