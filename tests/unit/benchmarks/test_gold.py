"""What is gained for how far: places on a path, which settings are taken, what is told; values by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.results import Row
from benchmarks.trainers.gold import (
    Climb,
    Tried,
    best_runs,
    chosen,
    figures,
    gain_at,
    gain_by,
    kept,
    runs_of,
    seconds_to,
)

PATH = ((0.5, 0.1), (4.5, 0.5), (12.5, 0.9))  # nats and gain, step by step


def run_of(
    who: str, seed: int, rate: float = 4e-3, path: tuple[tuple[float, float], ...] = PATH
) -> list[Row]:
    """Rows of a run that takes ten seconds a step."""
    return [
        {
            "part": "gold", "who": who, "seed": seed, "rate": rate, "beta": 0.05, "preference": "brief",
            "of_steps": 9, "step": step, "samples": 128 * step, "seconds": 10.0 * step, "gain": gain, "nats": nats,
        }
        for step, (nats, gain) in enumerate(path, 1)
    ]  # fmt: skip


def test_a_gain_lies_on_the_line_between_two_steps() -> None:
    run = run_of("heed-ppo", 0)
    assert gain_at(run, 2.5) == pytest.approx(0.3)  # half of the way from 0.5 to 4.5 nats
    assert gain_at(run, 8.5) == pytest.approx(0.7)
    assert gain_at(run, 0.25) == pytest.approx(0.05)  # the base itself is where every run begins
    assert gain_at(run, 13.0) is None


def test_where_a_run_never_was_its_best_counts() -> None:
    run = run_of("heed-ppo", 0, path=((0.5, 0.4), (0.9, 0.3)))
    assert gain_by(run, 0.5) == pytest.approx(0.4)
    assert gain_by(run, 5.0) == pytest.approx(0.4)


def test_the_seconds_are_those_of_the_first_step_that_reaches_the_share() -> None:
    run = run_of("heed-ppo", 0)
    assert seconds_to(run, 0.5) == 20.0
    assert seconds_to(run, 0.95) is None


def test_settings_are_tried_on_the_first_seed_and_the_best_are_taken() -> None:
    climb = Climb(seeds=(3, 4), rates=(1e-3, 4e-3), betas=(0.05,))
    assert chosen([], "heed-ppo", climb) == [(1e-3, 0.05), (4e-3, 0.05)]
    slow = run_of("heed-ppo", 3, 1e-3, ((0.5, 0.1), (1.5, 0.2)))
    rows = [*slow, *run_of("heed-ppo", 3, 4e-3), *run_of("trl-ppo", 3, 1e-3)]
    assert chosen(rows, "heed-ppo", climb) == [(4e-3, 0.05)]
    rows += run_of("heed-ppo", 4)
    assert [(run[0]["seed"], run[0]["rate"]) for run in best_runs(rows, "heed-ppo")] == [(3, 4e-3), (4, 4e-3)]


def test_nothing_is_told_while_settings_are_still_tried() -> None:
    rows = [*run_of("heed-ppo", 0, 1e-3), *run_of("heed-ppo", 0, 4e-3), *run_of("trl-ppo", 0)]
    assert figures(rows) == []


def test_rows_part_into_runs_step_by_step() -> None:
    rows = [*run_of("heed-ppo", 0), *run_of("heed-ppo", 1)]
    runs = runs_of(rows[::-1])
    assert [row["step"] for row in runs[Tried("heed-ppo", 1, 4e-3, 0.05)]] == [1, 2, 3]
    assert len(runs) == 2


def test_a_run_that_was_written_down_whole_is_not_done_again(tmp_path: Path) -> None:
    climb = Climb(preference="brief", steps=9, rows=tmp_path / "rows.jsonl")
    assert kept(climb, Tried("heed-ppo", 0, 4e-3, 0.05)) == []
    broken_off = run_of("heed-ppo", 1)[:2]
    rows = [
        *run_of("heed-ppo", 0)[:1],
        *run_of("heed-ppo", 0),
        *broken_off,
    ]  # the first try ended in its first step
    assert climb.rows is not None
    climb.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert kept(climb, Tried("heed-ppo", 0, 4e-3, 0.05)) == run_of(
        "heed-ppo", 0
    )  # its last step is past 10 nats
    assert kept(climb, Tried("heed-ppo", 1, 4e-3, 0.05)) == []
    assert kept(climb, Tried("heed-ppo", 0, 1e-3, 0.05)) == []


def test_lines_tell_gains_seconds_and_differences() -> None:
    better = ((0.5, 0.2), (4.5, 0.6), (12.5, 0.9))
    rows = [
        row for seed in (0, 1) for row in (*run_of("heed-ppo", seed, path=better), *run_of("trl-ppo", seed))
    ]
    gains, seconds = figures(rows)
    assert gains.heed == "25%, 35%, 62%, 81%"
    assert gains.beside.startswith(
        "TRL 1.12 PPO (rate 0.004, β 0.05, 2 seeds) 15%, 25%, 52%, 78%: points less 10.0 (10.0 to 10.0"
    )
    assert seconds.heed == "30 s (2 of 2 runs)"
    assert seconds.beside == "TRL 1.12 PPO 30 s (2 of 2 runs); bar: half of the better peer's"
    elsewhere = [one | {"cpu": "a Cray" if one["seed"] else "an abacus"} for one in rows]
    assert figures(elsewhere)[1].beside.endswith("; seeds 0 on an abacus; seeds 1 on a Cray")
