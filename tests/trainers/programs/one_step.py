"""One step of each of TRL's trainers on a file that Heed exported, given to it as ``datasets`` loads it.

Arguments: the folder of the exports and a folder to work in. Writes what came of each as one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import (
    DPOConfig,
    DPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)

STARTER = os.environ["HEED_STARTER"]
TRAINERS: dict[str, tuple[Any, Any, str]] = {
    "DPO": (DPOTrainer, DPOConfig, "preference"),
    "Reward": (RewardTrainer, RewardConfig, "preference"),
    "KTO": (KTOTrainer, KTOConfig, "binary"),
    "SFT": (SFTTrainer, SFTConfig, "sft"),
}


def model(kind: str) -> Any:
    """The starter model, with a head that scores where the trainer needs one."""
    if kind == "Reward":
        return AutoModelForSequenceClassification.from_pretrained(STARTER, num_labels=1)
    return AutoModelForCausalLM.from_pretrained(STARTER)


def main(data: Path, work: Path) -> None:
    """Run them all."""
    told = {}
    for name, (trainer_class, config_class, form) in TRAINERS.items():
        rows = load_dataset("json", data_files=str(data / f"{form}.jsonl"), split="train")
        assert isinstance(rows, Dataset)
        settings = config_class(
            output_dir=str(work / name),
            max_steps=1,
            per_device_train_batch_size=4,
            use_cpu=True,
            bf16=False,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            gradient_checkpointing=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(STARTER)
        trainer = trainer_class(
            model=model(name), args=settings, train_dataset=rows, processing_class=tokenizer
        )
        came = trainer.train()
        told[name] = {
            "rows": rows.num_rows,
            "columns": sorted(rows.column_names),
            "kept": len(trainer.train_dataset),
            "steps": came.global_step,
            "loss": came.training_loss,
        }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
