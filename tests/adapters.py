"""Makes small LoRA adapters that are told apart by what they answer, published as training would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tests.servers import STARTER


def random_adapter(
    folder: Path, seed: int, model: Path = STARTER, scale: float = 0.08, rank: int = 8
) -> Path:
    """A stock PEFT folder whose weights are random and large enough to change every greedy reply."""
    base: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(base, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    adapted.save_pretrained(str(folder))
    for extra in folder.glob("*.md"):
        extra.unlink()
    return folder
