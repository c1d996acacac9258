"""The adapter that every trainer of TRL learns, as it is told."""

from __future__ import annotations

from typing import Any


def lora(told: dict[str, Any]) -> Any:
    """On all linear layers, as Heed's is."""
    from peft import LoraConfig

    return LoraConfig(
        r=told["rank"],
        lora_alpha=told["alpha"],
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
