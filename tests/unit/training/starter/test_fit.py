"""The training loop and the folder it writes."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.starter import fit, release, vocabulary
from training.starter.settings import Recipe

TINY = dataclasses.replace(
    Recipe(),
    hidden=32,
    layers=1,
    heads=2,
    key_value_heads=1,
    head_dim=16,
    intermediate=32,
    steps=4,
    rows=2,
    warmup_steps=2,
    checkpoint_steps=2,
    tokenizer_dialogs=500,
    vocabulary=1000,
    compile=False,
    threads=1,
)


def test_the_rate_warms_up_to_one_and_falls_along_a_cosine_to_zero() -> None:
    recipe = dataclasses.replace(TINY, warmup_steps=10, steps=110)
    assert fit.rate(0, recipe) == pytest.approx(0.1)
    assert fit.rate(9, recipe) == pytest.approx(1.0)
    assert fit.rate(60, recipe) == pytest.approx(0.5)
    assert fit.rate(110, recipe) == pytest.approx(0.0)


def _run(folder: Path) -> list[float]:
    threads = torch.get_num_threads()
    losses: list[float] = []
    try:
        tokenizer = vocabulary.learn_tokenizer(TINY)
        model = fit.new_model(TINY, tokenizer)
        fit.fit(
            model,
            tokenizer,
            TINY,
            lambda progress: losses.append(progress.loss),
            lambda: release.write_model(model, tokenizer, folder),
        )
    finally:
        torch.set_num_threads(threads)
    return losses


def test_two_runs_are_the_same_and_leave_a_folder_that_loads(tmp_path: Path) -> None:
    first, again = _run(tmp_path / "one"), _run(tmp_path / "two")
    assert first == again
    assert len(first) == TINY.steps
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "one")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one")
    assert model.dtype is torch.bfloat16
    assert model.config.vocab_size == len(tokenizer)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}


def test_what_is_in_other_dialogs_of_a_row_does_not_move_the_hidden_states() -> None:
    from training.starter.packing import collate

    tokenizer = vocabulary.learn_tokenizer(TINY)
    model = fit.new_model(TINY, tokenizer).eval()
    alone = ([5, 6, 7, 8], [True] * 4)
    other = ([9, 10, 11], [True] * 3)
    trunk = fit._Trunk(model)
    with torch.no_grad():
        packed, single = (
            trunk(batch.ids, batch.positions, batch.attention)
            for batch in (collate([[other, alone]], 8), collate([[alone]], 8))
        )
    assert torch.allclose(packed[0, 3:7], single[0, :4], atol=1e-2)


def test_the_record_says_what_the_weights_cost(tmp_path: Path) -> None:
    release.write_training_record(TINY, 0.5, 12.0, tmp_path)
    record = json.loads((tmp_path / "training.json").read_text())
    assert record["final_loss_nats"] == 0.5
    assert record["wall_seconds"] == 12.0
    assert record["recipe"]["steps"] == 4
