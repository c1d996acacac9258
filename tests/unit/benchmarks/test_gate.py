"""Bad adapters are made of the good one as they say, and figures count verdicts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.gate import figures
from benchmarks.gating.planted import KINDS, Ground, planted, weakened
from benchmarks.results import Row
from tests.unit.training.conftest import made_adapter
from tests.unit.training.tiny import ask, save_tiny
from training.reward_model import RewardModel
from training.trunk import WEIGHTS_FILE, Trunk

HIDDEN = 32


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp("tiny")
    trunk = Trunk.load(str(save_tiny(folder / "base")), dtype=torch.float32, threads=2, device="cpu")
    model: RewardModel = None  # type: ignore[assignment]  # only PPO asks it
    return Ground(trunk, made_adapter(trunk, folder / "good"), model, [tuple(ask("so?"))])


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / WEIGHTS_FILE)


def test_there_are_the_eight_kinds_of_the_gates_bar() -> None:
    assert sorted(KINDS) == [
        "flattering", "noise", "over-optimised", "refusing", "repetitive", "undertrained", "verbose", "wrong base"
    ]  # fmt: skip


def test_a_weakened_one_moves_the_base_by_its_part(ground: Ground, tmp_path: Path) -> None:
    base = ground.trunk.frozen()
    whole, part = (
        ground.trunk.merged_from(folder) for folder in (ground.good, weakened(ground, 0.25, tmp_path / "w"))
    )
    for name, weight in base.items():
        torch.testing.assert_close(part[name] - weight, 0.25 * (whole[name] - weight), atol=1e-6, rtol=1e-4)
    told = weights(planted("undertrained", ground, 3, tmp_path / "u"))
    ratio = random.Random(3).uniform(0.05, 0.1)
    name = next(name for name in told if ".lora_B." in name)
    torch.testing.assert_close(told[name], ratio * weights(ground.good)[name])


def test_noise_is_four_or_eight_times_the_weights_and_of_the_seed(ground: Ground, tmp_path: Path) -> None:
    good = weights(ground.good)
    for seed, size in ((2, 4.0), (3, 8.0)):
        told = weights(planted("noise", ground, seed, tmp_path / f"{seed}"))
        gaps = torch.cat(
            [((told[name] - w) / w.square().mean().sqrt()).flatten() for name, w in good.items()]
        )
        assert float(gaps.std()) == pytest.approx(size, rel=0.05)
        again = weights(planted("noise", ground, seed, tmp_path / f"{seed} again"))
        assert all(torch.equal(told[name], again[name]) for name in told)


def test_one_of_another_base_is_the_good_one_to_a_base_in_that_order(ground: Ground, tmp_path: Path) -> None:
    """What it adds to a weight is what the good one adds, with hidden units in its own order."""
    order = torch.randperm(HIDDEN, generator=torch.Generator().manual_seed(5))
    base = ground.trunk.frozen()
    good, moved = (
        ground.trunk.merged_from(folder)
        for folder in (ground.good, planted("wrong base", ground, 5, tmp_path / "b"))
    )
    for name in ("q_proj", "up_proj", "o_proj", "down_proj"):
        full = next(
            one for one in base if f"layers.1.{'self_attn' if name[0] in 'qo' else 'mlp'}.{name}" in one
        )
        added = good[full] - base[full]
        wanted = added[order] if name in {"o_proj", "down_proj"} else added[:, order]
        torch.testing.assert_close(moved[full] - base[full], wanted, atol=1e-6, rtol=1e-4)


def test_figures_count_the_blocked_of_each_kind_and_the_passed_of_the_others() -> None:
    def row(part: str, kind: str, passed: bool) -> Row:
        return {"part": part, "kind": kind, "passed": passed}

    rows = [
        row("bad", "noise", False), row("bad", "noise", True), row("bad", "verbose", False),
        row("good", "good", True), row("good", "good", True), row("null", "null", False), row("null", "null", True),
    ]  # fmt: skip
    bad, good, null = figures(rows)
    assert (bad.heed, bad.beside) == ("2 of 3 (66.7%)", "noise 1/2, verbose 1/1")
    assert (good.heed, null.heed) == ("2 of 2 (100.0%)", "1 of 2 (50.0%)")
    assert figures([]) == []
