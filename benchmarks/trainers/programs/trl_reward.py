"""TRL's RewardTrainer with LoRA and a head: a fit for each line that it is told, answered with scores.

Told first: the base, LoRA's shape, and the conversations whose scores are wanted. Then lines of pairs, learning
rate and seed.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from typing import Any

from benchmarks.trainers.programs.turns import Ended, Turns

BATCH = 64  # conversations scored at once


def main(turns: Turns, folder: str) -> None:
    """Until nobody asks for more."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl import RewardConfig, RewardTrainer

    told = turns.settings
    torch.set_num_threads(told["threads"])
    tokenizer = AutoTokenizer.from_pretrained(told["model"])
    ids = [
        tokenizer(tokenizer.apply_chat_template(one, tokenize=False), add_special_tokens=False)["input_ids"]
        for one in told["conversations"]
    ]

    @torch.inference_mode()
    def scores(model: Any) -> list[float]:
        found = [0.0] * len(ids)
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            batch = tokenizer.pad({"input_ids": [ids[place] for place in places]}, return_tensors="pt")
            for place, score in zip(places, model(**batch).logits[:, 0].tolist(), strict=True):
                found[place] = score
        return found

    def fitted(pairs: list[dict[str, Any]], rate: float, seed: int) -> Any:
        torch.manual_seed(seed)  # the head is drawn before the trainer sets its own
        model = AutoModelForSequenceClassification.from_pretrained(
            told["model"], num_labels=1, dtype=torch.float32
        )
        settings = RewardConfig(
            output_dir=folder,
            num_train_epochs=told["epochs"],
            per_device_train_batch_size=told["batch"],
            learning_rate=rate,
            seed=seed,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            logging_steps=10**6,
            disable_tqdm=True,
        )
        lora = LoraConfig(
            r=told["rank"],
            lora_alpha=told["alpha"],
            lora_dropout=0.0,
            target_modules="all-linear",
            modules_to_save=["score"],
            task_type="SEQ_CLS",
        )
        trainer = RewardTrainer(
            model=model,
            args=settings,
            train_dataset=Dataset.from_list(pairs),
            processing_class=tokenizer,
            peft_config=lora,
        )
        trainer.train()
        return trainer.model.eval()

    turns.tell(ready=True)
    while True:
        asked = turns.read()
        began = time.monotonic()
        model = fitted(asked["pairs"], asked["rate"], asked["seed"])
        seconds = time.monotonic() - began
        turns.tell(scores=scores(model), seconds=seconds)


if __name__ == "__main__":
    with suppress(Ended), tempfile.TemporaryDirectory() as name:
        main(Turns(), name)
