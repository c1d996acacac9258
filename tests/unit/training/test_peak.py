"""The fit of worth against distance, and where a hundred simulated runs end."""

from __future__ import annotations

import math
import random

import pytest
import torch

from training.peak import Curve, Trail, fitted
from training.ppo_config import PPOConfig


def worth(d: float, peak: float, height: float) -> float:
    """Gao et al.'s curve with its peak at (peak, height): β = height/d*, α = β·(1 + log d*)."""
    return height / peak * d * (1 + math.log(peak) - math.log(d)) if d > 0 else 0.0


def test_the_curves_of_the_formula_are_found_again() -> None:
    distance = [0.0, 0.1, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    found = fitted(distance, [0.3 + worth(d, 2.0, 1.0) for d in distance])
    assert found is not None
    assert found.start == pytest.approx(0.3)
    assert found.alpha == pytest.approx(0.5 * (1 + math.log(2)))
    assert found.beta == pytest.approx(0.5)
    assert found.peak == pytest.approx(2.0)


def test_what_does_not_bend_beyond_doubt_has_no_peak() -> None:
    assert Curve(0.0, 1.0, 0.5, error=0.2).peak == math.inf
    assert Curve(0.0, 1.0, 0.5, error=0.1).peak == pytest.approx(math.e)
    assert Curve(0.0, 1.0, -0.5, error=0.0).peak == math.inf
    assert Curve(0.0, 1.0, 1e-300, error=0.0).peak == math.exp(50)
    distance = [0.3 * step for step in range(10)]
    assert (found := fitted(distance, distance)) is not None
    assert found.peak > 1e6 or found.peak == math.inf  # a straight line


def test_too_few_steps_or_steps_on_one_spot_are_not_fitted() -> None:
    assert fitted([0.1 * step for step in range(7)], [0.0] * 7) is None
    assert fitted([0.0] * 20, [1.0] * 20) is None
    assert fitted([1.0] * 20, [1.0] * 20) is None


def test_snapshots_are_kept_farther_and_farther_apart_and_only_sound_ones() -> None:
    trail = Trail()
    for place, kl in enumerate([-0.1, 0.04, 0.05, 0.09, 1.0, 4.0]):
        trail.note(kl, 0.0, (lambda place=place: [torch.tensor(place)]) if place != 4 else None)
    assert trail.distance == pytest.approx([0.0, 0.2, math.sqrt(0.05), 0.3, 1.0, 2.0])
    assert trail.places == pytest.approx([0.0, 0.2, 0.3, 2.0])  # 0.22 is not a fifth farther than 0.2
    assert [int(one[0]) for one in trail.snapshots] == [0, 1, 3, 5]


def walked(distances: list[float], peak: float) -> Trail:
    trail = Trail()
    for d in distances:
        trail.note(d * d, worth(d, peak, 1.0), lambda d=d: [torch.tensor(d)])
    return trail


def test_the_snapshot_nearest_to_a_share_of_the_way_is_the_one_to_keep() -> None:
    steps = [0.0, 0.2, 0.4, 0.6, 0.9, 1.3, 1.9, 2.5, 3.3]
    passed = walked(steps, 2.0)
    assert passed.behind()  # 3.3 is over 1.6 times 2
    assert passed.best(0.9) == 6  # 1.9 of 1.8; 1.3 is farther
    assert walked(steps, 2.5).best(0.9) == 7
    assert passed.best(1.1) == 7  # 2.5 is 1.14 times 2.2, which is 1.16 times 1.9
    assert not walked(steps, 2.5).behind()
    ahead = walked(steps, 6.0)
    assert (ahead.best(0.9), ahead.behind()) == (None, False)
    assert (Trail().best(0.9), Trail().behind()) == (None, False)


@pytest.mark.parametrize("peak", [1.5, 2.0, 2.5, 3.5, 5.0, 10.0])
def test_simulated_runs_end_within_a_twentieth_of_the_best_on_their_way(peak: float) -> None:
    """24 steps up to 12 nats; each step's worth is known to a twentieth of the peak's height."""
    rng, fine = random.Random(peak), 0
    for _ in range(100):
        trail, real = Trail(), list[float]()
        for step in range(24):
            kl = 12 * (max(0, step - 2) / 21) ** 1.3 * math.exp(rng.gauss(0, 0.1))
            real.append(math.sqrt(min(kl, 12.0)))
            told = worth(real[-1], peak, 1.0) + rng.gauss(0, 0.05)
            trail.note(real[-1] ** 2, told, lambda d=real[-1]: [torch.tensor(d)])
            if trail.behind():
                break
        best = trail.best(PPOConfig().peak_share)
        kept = real[-1] if best is None else trail.places[best]
        top = worth(min(peak, math.sqrt(12)), peak, 1.0)
        fine += worth(kept, peak, 1.0) >= 0.95 * top
    assert fine >= 95
