"""Simulated abuse: traffic that is the same for a seed, plants that are marked, figures that count right."""

from __future__ import annotations

import pytest

from benchmarks.abuse.attacks import KINDS, attacked
from benchmarks.abuse.traffic import DAY, DAYS, START, honest
from benchmarks.poison import figures, is_found, paired, searched
from feedback.held import KINDS as NAMED


def test_a_seed_is_one_stretch_of_honest_traffic_and_nothing_in_it_is_planted() -> None:
    said = honest(3).said
    assert said == honest(3).said
    assert said != honest(4).said
    assert not any(one.planted for one in said)
    times = [one.time for one in said]
    assert START <= min(times) < max(times) < START + (DAYS + 1) * DAY


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_is_planted_into_the_same_traffic_and_marked(kind: str) -> None:
    world = attacked(kind, 3)
    plain = honest(3).said
    assert world.said[: len(plain)] == plain
    added = world.said[len(plain) :]
    assert 20 <= len(added) <= 500
    assert all(one.planted for one in added)
    assert kind in NAMED


def test_a_run_tells_what_is_held_of_the_planted_and_of_the_honest() -> None:
    row = searched(attacked("rate", 3), "rate", 3)
    assert row["planted_held"] <= row["planted"] < row["votes"]
    assert is_found(row)
    assert "rate" in row["as"]


def test_figures_count_bursts_by_kind_false_alarms_by_run_and_points_by_way() -> None:
    burst = {"part": "bursts", "seed": 1, "votes": 110, "planted": 10, "as": ["rate"]}
    clean = {**burst, "kind": "none", "planted": 0, "planted_held": 0, "votes": 100}
    rows = [
        {**burst, "kind": "rate", "held": 6, "planted_held": 5},
        {**burst, "kind": "rate", "held": 4, "planted_held": 4},
        {**clean, "held": 0},
        {**clean, "held": 2},
        {
            "part": "accuracy",
            "way": "flood",
            "clean": 0.8,
            "defended": 0.79,
            "clean_undefended": 0.8,
            "undefended": 0.7,
        },
    ]
    found, alarms, lost = figures(rows)
    assert (found.heed, found.beside[:5]) == ("1 of 2 (rate 1/2)", "0.50%")
    assert (alarms.heed, alarms.beside) == ("1 of 2 (50.0%)", "1.000% of all honest votes")
    assert (lost.heed, lost.beside) == ("1.0", "undefended 10.0")


def test_points_lost_are_a_mean_of_paired_differences_with_students_interval() -> None:
    """Of 0, 1 and 2 the deviation is 1, and Student's 97.5 % point with two degrees of freedom is 4.303."""
    assert paired([0.0, 1.0, 2.0]) == "1.0 (-1.5 to 3.5, 3 seeds)"
    assert paired([0.4]) == "0.4"
