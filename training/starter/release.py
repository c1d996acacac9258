"""Writes the model folder, weights in bf16 and tokenizer, as Hugging Face and vLLM read it."""

import copy
import dataclasses
import json
import tempfile
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from training.starter.settings import Recipe


def write_model(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Put the model into ``folder``; each file is replaced whole, so a reader never meets half of one."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
        staging = Path(name)
        copy.deepcopy(model).to(torch.bfloat16).save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        for file in sorted(staging.iterdir()):
            file.chmod(0o644)
            file.replace(folder / file.name)


def write_training_record(recipe: Recipe, loss: float, seconds: float, folder: Path) -> None:
    """Note in ``training.json`` what the weights cost, for the card.

    Args:
        recipe: what was run.
        loss: mean of the last 50 steps, in nats per assistant token.
        seconds: wall clock from the first dialog to the last checkpoint.
        folder: the model's folder.
    """
    record = {"recipe": dataclasses.asdict(recipe), "final_loss_nats": loss, "wall_seconds": seconds}
    (folder / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
