"""Trainers in turns: what a child says, what raters say, and what is told of scores; values by hand."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import training
from benchmarks.results import Row
from benchmarks.trainers import children, memory, processes, speed
from benchmarks.trainers.reward import Compared, Trial, correlation, told_of, voted, without

ASKED = ({"role": "user", "content": "so?"},)


# --- children -------------------------------------------------------------------------------------------------


PROGRAM = """
import itertools, sys
from contextlib import suppress
from benchmarks.trainers.programs.turns import Ended, Turns
with suppress(Ended):
    turns = Turns()
    print("chatter of a library")
    turns.ready()
    for step in itertools.count(1):
        turns.stepped(turns.settings["samples"], 40 * step)
"""


def test_a_child_works_in_its_turn_alone_and_ends_when_nobody_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "programs"
    package.mkdir()
    (package / "steps.py").write_text(PROGRAM)
    monkeypatch.setattr(children, "PROGRAMS", "programs")
    with children.child(sys.executable, "steps", tmp_path / "log", 1, tmp_path) as child:
        assert child.ask(samples=8) == {"ready": True}
        first, second = child.ask(seconds=0.0), child.ask(seconds=0.0)
    assert (first["samples"], first["tokens"]) == (8, 5.0)
    assert (second["samples"], second["tokens"]) == (8, 10.0)
    assert "chatter of a library" in (tmp_path / "log").read_text()


WRITER = """
import itertools
from contextlib import suppress
from benchmarks.trainers.programs.turns import Ended, Turns
with suppress(Ended):
    turns = Turns()
    turns.write = lambda folder: folder.write_text(str(step))
    turns.ready()
    for step in itertools.count(1):
        turns.stepped(1, 1)
"""


def test_a_child_writes_its_adapter_down_after_the_turns_that_ask_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, second = tmp_path / "programs", tmp_path / "second"
    package.mkdir()
    (package / "writes.py").write_text(WRITER)
    monkeypatch.setattr(children, "PROGRAMS", "programs")
    with children.child(sys.executable, "writes", tmp_path / "log", 1, tmp_path) as child:
        child.ask()
        child.ask(seconds=0.0)
        child.ask(seconds=0.0, adapter=str(second))
        child.ask(seconds=0.0)
    assert second.read_text() == "2"


def test_a_child_that_dies_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "programs"
    package.mkdir()
    (package / "dies.py").write_text("raise SystemExit('no such model')")
    monkeypatch.setattr(children, "PROGRAMS", "programs")
    with (
        children.child(sys.executable, "dies", tmp_path / "log", 1, tmp_path) as child,
        pytest.raises(RuntimeError, match="no such model"),
    ):
        child.ask(samples=8)


# --- speed ----------------------------------------------------------------------------------------------------


def turn(who: str, number: int, samples: int, seconds: float) -> Row:
    return {
        "part": "speed", "who": who, "round": number, "samples": samples, "seconds": seconds, "tokens": 30.0,
    }  # fmt: skip


def test_a_peer_stands_beside_heeds_trainer_of_the_same_algorithm_round_by_round() -> None:
    rows = [
        turn("heed-ppo", 1, 128, 2.0), turn("trl-ppo", 1, 128, 8.0),  # 64 and 16: 4
        turn("trl-ppo", 2, 128, 16.0), turn("heed-ppo", 2, 384, 6.0),  # 64 and 8: 8
        turn("heed-rloo", 1, 100, 1.0),  # nobody to stand beside
    ]  # fmt: skip
    (line,) = speed.figures(rows)
    assert line.heed == "64.0"
    assert line.beside == "TRL 1.12 PPO 12.0 (of 30 tokens): 6.0 times as fast, 4.0 to 8.0 by round; bar 5"


def test_two_processes_stand_beside_one_and_what_each_held_is_told_where_the_base_was_cut_up() -> None:
    base = {"one": 8_000_000, "two": 8_000_000, "cut": 4_000_000}
    rows = [
        turn(who, number, samples, 1.0) | {"base_bytes": base[who]}
        for number, told in enumerate(({"one": 50, "two": 60, "cut": 20}, {"one": 40, "two": 40, "cut": 32}))
        for who, samples in told.items()
    ]
    whole, cut = processes.figures(rows)
    assert (whole.heed, cut.heed) == ("50.0", "26.0")
    one = "one process on both cores 45.0"
    assert whole.beside == f"{one}: 1.10 times as fast, 1.00 to 1.20 by round; bar 1.0"
    assert cut.beside == (
        f"{one}: 0.60 times as fast, 0.40 to 0.80 by round; bar 1.0; "
        "each held 4.0 MB of the base between passes, the one 8.0 MB"
    )
    assert len(processes.figures([row for row in rows if row["who"] != "cut"])) == 1


# --- memory ---------------------------------------------------------------------------------------------------


def test_ppos_memory_stands_beside_that_of_each_other_trainer() -> None:
    of = {"part": "memory", "parameters": 92_400_000}
    peaks = {"heed-sft": 2000, "trl-sft": 4000, "heed-ppo": 2400, "trl-ppo": 9600}
    (line,) = memory.figures([{**of, "who": who, "peak_mb": peak} for who, peak in peaks.items()])
    assert line.what.startswith("largest memory of a PPO step, 92 million parameters")
    assert line.heed == "2,400 MB"
    assert line.beside == (
        "fine-tuning here 2,000 MB: 1.20 times; TRL's 4,000 MB: 0.60 times; TRL 1.12 PPO 9,600 MB: 0.25 times"
    )


# --- reward models --------------------------------------------------------------------------------------------


def shown(gold: list[list[float]], replies: list[tuple[str, str]] | None = None) -> Compared:
    texts = replies or [("one", "one two")] * len(gold)
    return Compared([ASKED] * len(gold), texts, torch.tensor(gold))


def test_the_nearest_fifth_are_ties_and_a_quarter_of_the_rest_is_turned_round() -> None:
    gaps = [0.001 * place for place in range(1, 2001)]
    pairs = voted(shown([[gap, 0.0] for gap in gaps]), Trial(), seed=0)
    ties = [pair.outcome == "tie" for pair in pairs]
    assert sum(ties[:400]) == 400
    assert sum(ties) == 400
    wrong = sum(pair.a == "one two" for pair in pairs if pair.outcome == "win") / 1600
    assert wrong == pytest.approx(0.25, abs=0.04)


def test_accuracy_and_calibration_by_hand_without_the_ties() -> None:
    # five pairs of which the nearest is a tie; of the others three are told rightly; σ(ln 3) = ¾
    seen = shown([[0.1, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, 4.0]])
    scores = torch.tensor([[0.0, 9.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    told = told_of(scores, lambda d: torch.sigmoid(d * math.log(3)), seen, Trial(noise=0.25))
    assert told["accuracy"] == 0.75
    # ¾ said three times, of which ¾, ¾ and ¼ came true; ¼ once, and it was ¼
    assert told["calibration_error"] == pytest.approx(3 / 4 * (0.75 - 1.75 / 3), abs=1e-6)


def test_what_the_preference_explains_of_length_is_no_bias() -> None:
    gold = torch.randn((500, 2), generator=torch.Generator().manual_seed(1))
    other = torch.randn((500, 2), generator=torch.Generator().manual_seed(2))
    length, scores = 2 * gold + other, 3 * gold
    assert correlation(scores, length) == pytest.approx(2 / 5**0.5, abs=0.03)
    assert abs(correlation(without(scores, gold), without(length, gold))) < 0.05
    biased = scores + other
    assert correlation(without(biased, gold), without(length, gold)) == pytest.approx(1, abs=1e-3)


def test_figures_tell_the_best_rate_and_the_points_between() -> None:
    def row(who: str, rate: float, seed: int, accuracy: float) -> Row:
        return {
            "part": "reward", "who": who, "preference": "plain", "seed": seed, "votes": 1000, "rate": rate,
            "accuracy": accuracy, "calibration_error": 0.04, "length": 0.05 - 0.16 * seed, "length_bias": -0.01,
            "length_of_preference": 0.2,
        }  # fmt: skip

    rows = [
        row("heed", 0, 0, 0.80), row("heed", 0, 1, 0.82),
        row("trl", 1e-3, 0, 0.79), row("trl", 1e-3, 1, 0.75),  # 77 %
        row("trl", 3e-3, 0, 0.70), row("trl", 3e-3, 1, 0.83),  # 76.5 %
    ]  # fmt: skip
    lines = training.figures([{"part": "reward", "of": "abc", "machine": "a Cray"}, *rows])
    assert {line.machine for line in lines} == {"a Cray"}
    assert [line.heed for line in lines] == ["81.0%", "0.040", "0.08, beyond the preference 0.01"]
    assert lines[0].beside.endswith(
        "best of three rates (0.001): 77.0%; bar 2 points more; it is 4.0 (-34.1 to 42.1, 2 seeds)"
    )


def test_a_part_that_is_run_alone_leaves_the_others_figures_as_they_were() -> None:
    old: list[dict[str, Any]] = [{"part": "speed", "n": 1}, {"part": "reward", "n": 2}]
    assert training.beside([{"part": "reward", "n": 3}], old) == [{"part": "reward", "n": 3}, old[0]]


def test_heed_measured_alone_stands_beside_the_peers_rows_of_the_same_votes() -> None:
    same = {
        "part": "reward", "preference": "plain", "seed": 0, "votes": 100, "ties": 21, "held_out": 800,
    }  # fmt: skip
    old: list[Row] = [
        {"part": "reward", "of": "abc"},
        {**same, "who": "heed"},
        {**same, "who": "trl"},
        {**same, "who": "trl", "held_out": 1500},
        {**same, "who": "trl", "seed": 1},
    ]
    now: list[Row] = [{"part": "reward", "of": "def"}, {**same, "who": "heed"}]
    kept = {**same, "who": "trl", "of": "abc"}
    assert training.beside(now, old) == [*now, kept]
    assert training.beside(now, [*now, kept]) == [*now, kept]
    both = [*now, {**same, "who": "trl"}]
    assert training.beside(both, old) == both
