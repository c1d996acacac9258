"""Two processes on gloo, started by torchrun, give the losses and weights of one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.unit.training import together
from tests.unit.training.tiny import save_tiny
from training import ranks
from training.trunk import WEIGHTS_FILE, Trunk

ROOT = Path(__file__).resolve().parents[3]
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": {},  # by the decoder here
    "llama": {"attention_bias": True, "mlp_bias": True},  # by transformers and PEFT
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for family, settings in FAMILIES.items():
        save_tiny(folder / family, family, **settings)
    return folder


@pytest.fixture(scope="module")
def alone(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What one process of two lanes does."""
    out, told = tmp_path_factory.mktemp("alone"), {}
    for model in sorted(models.iterdir()):
        trunk = Trunk.load(str(model), dtype=torch.float32, threads=2, device="cpu")
        told[model.name] = together.trained(trunk, out / model.name)
    return out, told


@pytest.fixture(scope="module")
def two(
    models: Path, alone: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, Any]]]:
    """What two processes of one lane each do, and tell. Through transformers the share decides what is drawn, so
    there they get the replies that the one sampled.
    """
    out = tmp_path_factory.mktemp("two")
    for kept in (alone[0] / "llama" / "checkpoint").glob("rollouts-*"):
        for name in ("llama", "llama cut up"):
            (out / name / "checkpoint").mkdir(parents=True, exist_ok=True)
            shutil.copy(kept, out / name / "checkpoint")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [*start, "-m", "tests.unit.training.together", str(models), str(out)],
        check=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        timeout=500,
    )
    return out, [json.loads((out / f"{place}.json").read_text()) for place in (0, 1)]


def assert_near(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """Each matrix as a whole, to a ten-thousandth of its size. Sums are ordered otherwise, and by each processor in its
    own way; where a gradient is next to nothing Adam makes of its last digits a step of a single weight.
    """
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert float((ours[name] - weight).norm()) <= 1e-4 * float(weight.norm()), name


@pytest.mark.parametrize("base", ["whole", "cut up"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_two_processes_have_the_losses_of_one(
    alone: tuple[Path, dict[str, Any]], two: tuple[Path, list[dict[str, Any]]], family: str, base: str
) -> None:
    one = alone[1][family]
    assert len(one["losses"]) > 10
    for told in (process[f"{family} cut up" if base == "cut up" else family] for process in two[1]):
        assert told["losses"] == pytest.approx(one["losses"], abs=1e-5)
        assert told["sft"] == pytest.approx(one["sft"], abs=1e-5)
        assert told["stopped"] == one["stopped"] == "all steps done"
        assert len(told["curve"]) == together.CONFIG.max_steps
        for ours, theirs in zip(told["curve"], one["curve"], strict=True):
            assert ours | {"seconds": 0} == pytest.approx(theirs | {"seconds": 0}, abs=1e-5)


@pytest.mark.parametrize("base", ["whole", "cut up"])
@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("part", ["sft", "ppo"])
def test_two_processes_write_the_adapter_of_one(
    alone: tuple[Path, dict[str, Any]],
    two: tuple[Path, list[dict[str, Any]]],
    family: str,
    part: str,
    base: str,
) -> None:
    here = f"{family} cut up" if base == "cut up" else family
    ours = load_file(two[0] / here / part / WEIGHTS_FILE)
    theirs = load_file(alone[0] / family / part / WEIGHTS_FILE)
    assert max(float(weight.abs().max()) for name, weight in theirs.items() if "lora_B" in name) > 1e-3
    assert_near(ours, theirs)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_each_of_two_processes_holds_half_of_a_base_that_is_cut_up(
    two: tuple[Path, list[dict[str, Any]]], family: str
) -> None:
    for told in (process[f"{family} cut up"] for process in two[1]):
        before, after = told["bytes"]
        assert before == after == pytest.approx(told["whole"] / 2, rel=0.05)  # norms and biases are whole
        assert told["kept for sampling"] == []


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_process_without_a_pass_of_its_own_makes_one_that_counts_for_nothing(
    two: tuple[Path, list[dict[str, Any]]], family: str
) -> None:
    for told in (process[f"{family} cut up"]["idle"] for process in two[1]):
        assert (told["learnt"], told["seen"], told["none"]) == ([[0, 1]], [[[0, 1], 3]], [])
        assert told["learnt"] == two[1][0][f"{family} idle"]["learnt"]
        whole = two[1][0][f"{family} idle"]["gradients"]
        for ours, theirs in zip(told["gradients"], whole, strict=True):
            torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_layers_that_are_gathered_in_bfloat16_compute_what_autocast_does(
    models: Path, two: tuple[Path, list[dict[str, Any]]], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.forward.supports", lambda _: False)
    whole = together.in_bfloat16(models / family, shard=False)
    for told in (process[f"{family} cut up"]["bfloat16"] for process in two[1]):
        near = {"llama": 1e-5, "qwen3": 0.03}[family]  # the latter not by transformers, so rounded elsewhere
        assert told["logprobs"] == pytest.approx(whole["logprobs"], abs=near)
        assert told["gradient"] == pytest.approx(whole["gradient"], rel=near)
        assert whole["kept"] >= 2 * 5 - 1  # the first layer's queries hang on no adapter
        assert told["kept"] == 0


def test_one_process_alone_cannot_cut_the_base_up(models: Path) -> None:
    with pytest.raises(ValueError, match="one process alone"):
        Trunk.load(str(models / "qwen3"), device="cpu", shard=True)


def test_two_processes_that_were_killed_go_on_to_the_same_bytes(
    two: tuple[Path, list[dict[str, Any]]],
) -> None:
    assert [told["samples taken up"] for told in two[1]] == [3 * 18, 3 * 18]
    assert (two[0] / "qwen3" / "again" / WEIGHTS_FILE).read_bytes() == (
        two[0] / "qwen3" / "ppo" / WEIGHTS_FILE
    ).read_bytes()


def test_one_process_goes_on_with_what_two_began(
    models: Path, alone: tuple[Path, dict[str, Any]], two: tuple[Path, list[dict[str, Any]]]
) -> None:
    trunk = Trunk.load(str(models / "qwen3"), dtype=torch.float32, threads=2, device="cpu")
    assert together.taken_up(trunk, two[0] / "qwen3", "by one").steps == 3
    ours, theirs = (
        load_file(folder / WEIGHTS_FILE)
        for folder in (two[0] / "qwen3" / "by one", alone[0] / "qwen3" / "ppo")
    )
    assert_near(ours, theirs)


def test_the_first_of_two_processes_asks_the_engines_and_both_hear_the_replies(
    two: tuple[Path, list[dict[str, Any]]],
) -> None:
    first, second = (told["by engine"] for told in two[1])
    assert (first["asked"], second["asked"]) == (3, 0)
    assert first["replies"] == second["replies"]
    assert first["replies"][::2] == [[4, 5, 6, 1]] * 2  # by the fake; both sampled what it refused
    assert first["replies"][1] not in ([], [4, 5, 6, 1])


def test_two_processes_are_told_of_the_same_things(two: tuple[Path, list[dict[str, Any]]]) -> None:
    assert [told["size"] for told in two[1]] == [2, 2]
    first, second = (told["words"] for told in two[1])
    assert (first["share"], second["share"]) == ([0, 2], [2, 5])
    assert (first["first"], second["first"]) == (True, False)
    assert first["turn"][1] <= second["turn"][0]
    for told in (first, second):
        assert told["gathered"] == ["a", "b", "c", "d", "e"]
        assert told["tensors"] == [[0, 1], [2, 3], [4, 5], [10, 11], [12, 13], [14, 15]]
        assert told["agreed"] == {"I am": 0}
        assert told["gradients"] == [[3, 6], [5, 7], [0, 0]]  # 1 + 2 and 2 + 4; the first's alone; nobody's
    assert [told["weights"][0] for told in (first, second)] == [[0, 0], [0, 0]]
    assert [told["weights"][1] for told in (first, second)] == [[0, 0], [1, 1]]


def test_one_process_has_it_all_and_its_gradients_stay_as_they_are() -> None:
    weight = nn.Parameter(torch.ones(2))
    with ranks.joined():
        ranks.sum_gradients([weight])
        ranks.meet()
        assert weight.grad is None
        assert (ranks.size(), ranks.place(), ranks.is_first()) == (1, 0, True)
        assert ranks.share(7) == slice(0, 7)
        assert ranks.gathered((1, 2)) == [1, 2]
        assert ranks.agreed("said") == "said"
