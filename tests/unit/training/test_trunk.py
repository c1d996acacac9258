"""The trunk: adapters come and go on a frozen base, and what it writes is stock PEFT's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from tests.unit.training.conftest import Loader, made_adapter
from tests.unit.training.tiny import ask
from training.trunk import CONFIG_FILE, WEIGHTS_FILE, Trunk

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11]])


def stock(trunk: Trunk) -> Any:
    return AutoModelForCausalLM.from_pretrained(trunk.model_path, dtype=torch.float32)


@torch.no_grad()
def logits_of(model: Any) -> Tensor:
    return model.eval()(input_ids=IDS).logits


def logits_under(trunk: Trunk, name: str | None) -> Tensor:
    with trunk.using(name) as model:
        return logits_of(model)


def test_without_an_adapter_it_is_the_base_as_saved(trunk: Trunk, adapter: Path) -> None:
    wanted = logits_of(stock(trunk))
    assert torch.equal(logits_under(trunk, None), wanted)
    trunk.add("new")
    assert torch.equal(logits_under(trunk, "new"), wanted)  # B is zero
    assert not torch.allclose(logits_under(trunk, "made"), wanted, atol=0.1)


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_cpu_computes_in_what_it_is_fast_in(
    trunk: Trunk, monkeypatch: pytest.MonkeyPatch, native: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr("training.trunk.native_bfloat16", lambda: native)
    assert Trunk.load(trunk.model_path, device="cpu").compute is dtype
    assert Trunk.load(trunk.model_path, dtype=torch.float16, device="cpu").compute is torch.float16
    assert Trunk.load(trunk.model_path, dtype="float32", device="cpu").compute is torch.float32
    assert Trunk.load(trunk.model_path, dtype="bfloat16", device="cpu").compute is torch.bfloat16


def test_what_is_written_is_a_stock_peft_folder(trunk: Trunk, adapter: Path) -> None:
    assert {path.name for path in adapter.iterdir()} == {CONFIG_FILE, WEIGHTS_FILE}
    loaded = PeftModel.from_pretrained(stock(trunk), str(adapter))
    torch.testing.assert_close(logits_of(loaded), logits_under(trunk, "made"), atol=1e-6, rtol=1e-6)
    config = json.loads((adapter / CONFIG_FILE).read_text())
    assert config["base_model_name_or_path"] == trunk.model_path
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (16, 32, 0.0)
    assert config["target_modules"] == [
        "down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"
    ]  # fmt: skip


def test_an_adapter_read_back_is_the_one_that_was_written(
    trunk: Trunk, adapter: Path, tmp_path: Path
) -> None:
    trunk.add("again", adapter)
    trunk.write("again", tmp_path / "again")
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        assert (tmp_path / "again" / name).read_bytes() == (adapter / name).read_bytes()


def test_merged_weights_are_those_that_peft_merges(trunk: Trunk, adapter: Path) -> None:
    merged = PeftModel.from_pretrained(stock(trunk), str(adapter)).merge_and_unload()
    wanted = dict(merged.named_parameters())
    for found in (trunk.merged("made"), trunk.merged_from(adapter)):
        assert set(found) == set(wanted)
        for name, weight in found.items():
            torch.testing.assert_close(weight.detach(), wanted[name].detach(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "modules"),
    [
        ({"r": 4, "lora_alpha": 32}, "all-linear"),
        ({"r": 8, "lora_alpha": 8, "use_rslora": True}, ["q_proj", "v_proj"]),
    ],
)
def test_a_foreign_adapter_of_another_shape_merges_by_its_own_scale(
    trunk: Trunk, tmp_path: Path, shape: dict[str, Any], modules: Any
) -> None:
    config = LoraConfig(**shape, target_modules=modules, init_lora_weights=False, task_type="CAUSAL_LM")
    foreign = get_peft_model(stock(trunk), config)
    foreign.save_pretrained(str(tmp_path))
    found = trunk.merged_from(tmp_path)
    for name, weight in foreign.merge_and_unload().named_parameters():
        torch.testing.assert_close(found[name], weight.detach(), atol=1e-6, rtol=1e-6)


def test_merging_leaves_the_base_as_it_is(trunk: Trunk, adapter: Path) -> None:
    before = {name: weight.clone() for name, weight in trunk.frozen().items()}
    for _ in range(3):
        trunk.merged("made")
    wanted = dict(stock(trunk).named_parameters())
    assert set(trunk.frozen()) == set(wanted)
    for name, weight in trunk.frozen().items():
        assert torch.equal(weight, before[name])
        assert torch.equal(weight, wanted[name])


def test_only_the_adapter_that_was_asked_for_learns(trunk: Trunk, adapter: Path) -> None:
    trunk.add("other", adapter)
    weights = trunk.weights("made")
    learning = {id(weight) for weight in trunk.model.parameters() if weight.requires_grad}
    assert learning == {id(weight) for weight in weights}
    assert len(weights) == 2 * 7 * 2  # A and B of seven projections in two layers


def test_a_fresh_process_and_a_used_one_begin_alike(tiny: Loader, tmp_path: Path) -> None:
    trunk, begun = tiny(), []
    for folder in ("fresh", "again", "beside another"):
        torch.manual_seed(11)
        trunk.add("policy")
        trunk.write("policy", tmp_path / folder)
        files = [(tmp_path / folder / name).read_bytes() for name in (CONFIG_FILE, WEIGHTS_FILE)]
        begun.append((files, float(torch.rand(()))))  # and what is drawn next
        if folder == "again":
            made_adapter(trunk, tmp_path / "made")
    assert begun[0] == begun[1] == begun[2]


def test_nothing_is_left_of_the_adapter_that_had_the_name_before(
    trunk: Trunk, adapter: Path, tmp_path: Path
) -> None:
    shape = LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj"], init_lora_weights=False)
    narrow = get_peft_model(stock(trunk), shape)
    narrow.save_pretrained(str(tmp_path))
    trunk.add("made", tmp_path)
    torch.testing.assert_close(logits_under(trunk, "made"), logits_of(narrow), atol=1e-6, rtol=1e-6)


def test_the_state_has_the_names_and_values_of_the_file(trunk: Trunk, adapter: Path) -> None:
    state, saved = trunk.state("made"), load_file(adapter / WEIGHTS_FILE)
    assert set(state) == set(saved)
    assert all(torch.equal(state[name], saved[name]) for name in saved)


def test_a_conversation_ends_with_the_end_token(trunk: Trunk) -> None:
    tokens = trunk.tokens(ask("ab"), "ba")
    assert tokens.prompt == (4, 5, 2, 3)  # a, b, end of message, begin of reply
    assert tokens.reply == (5, 4, 1)
    assert trunk.ends == frozenset({1})
