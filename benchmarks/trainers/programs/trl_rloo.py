"""TRL's RLOO, a turn at a time, on the same base, LoRA, prompts, lengths and epochs."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from typing import Any

from benchmarks.trainers.programs.lora import lora
from benchmarks.trainers.programs.turns import Ended, Turns

EPOCH = 64  # steps from one pass over the data to the next, so that beginning one costs nothing to speak of


def main(turns: Turns, folder: str) -> None:
    """Until nobody asks for more."""
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )
    from trl import RLOOConfig, RLOOTrainer

    told = turns.settings
    torch.set_num_threads(told["threads"])
    tokenizer = AutoTokenizer.from_pretrained(told["model"], padding_side="left")
    rows = [{"prompt": one} for one in told["prompts"] * EPOCH]
    samples = len(told["prompts"]) * told["group"]
    updates = told["minibatches"] * told["epochs"]  # of one set of replies
    policy = AutoModelForCausalLM.from_pretrained(told["model"], dtype=torch.float32)
    reward = AutoModelForSequenceClassification.from_pretrained(
        told["model"], num_labels=1, dtype=torch.float32
    )

    class Stepped(TrainerCallback):  # type: ignore[misc] # it carries no types
        def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
            if state.global_step % updates == 0:
                mean = trainer._metrics["train"]["completions/mean_length"][-1]  # noqa: SLF001 - told nowhere else
                turns.stepped(samples, round(samples * mean))

    settings = RLOOConfig(
        output_dir=folder,
        max_steps=10**9,
        per_device_train_batch_size=samples // told["minibatches"],
        gradient_accumulation_steps=1,
        steps_per_generation=told["minibatches"],
        num_iterations=told["epochs"],
        num_generations=told["group"],
        shuffle_dataset=False,
        max_completion_length=told["max_tokens"],
        learning_rate=told["learning_rate"],
        lr_scheduler_type="constant",
        beta=told["beta"],
        temperature=1.0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=10**6,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = RLOOTrainer(
        model=policy,
        reward_funcs=reward.eval(),
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        reward_processing_classes=AutoTokenizer.from_pretrained(told["model"]),
        peft_config=lora(told),
        callbacks=[Stepped()],
    )
    turns.ready()
    trainer.train()


if __name__ == "__main__":
    with suppress(Ended), tempfile.TemporaryDirectory() as name:
        main(Turns(), name)
