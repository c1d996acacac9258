"""TRL's RLOO, a turn at a time, on the same base, LoRA, prompts, lengths and epochs.

The reward is what is told (``rewarding``), or a random model of the base's size.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from typing import Any

from benchmarks.trainers.programs.lora import lora
from benchmarks.trainers.programs.rewarding import rewarding
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
    torch.manual_seed(told["seed"])
    tokenizer = AutoTokenizer.from_pretrained(told["model"], padding_side="left")
    rows = [{"prompt": one} for one in told["prompts"] * EPOCH]
    samples = told["step"] * told["group"]
    updates = told["minibatches"] * told["epochs"]  # of one set of replies
    policy = AutoModelForCausalLM.from_pretrained(told["model"], dtype=torch.float32)
    by_model: dict[str, Any] = {
        "reward_funcs": AutoModelForSequenceClassification.from_pretrained(
            told["model"], num_labels=1, dtype=torch.float32
        ).eval(),
        "reward_processing_classes": AutoTokenizer.from_pretrained(told["model"]),
    }

    def by_text(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
        worth, pairs = rewarding(told["reward"]), zip(prompts, completions, strict=True)
        return [worth(asked[-1]["content"], said[-1]["content"]) for asked, said in pairs]

    class Stepped(TrainerCallback):  # type: ignore[misc] # it carries no types
        def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
            if state.global_step % updates == 0:
                mean = trainer._metrics["train"]["completions/mean_length"][-1]  # noqa: SLF001 - told nowhere else
                turns.stepped(samples, round(samples * mean))

    settings = RLOOConfig(
        output_dir=folder,
        seed=told["seed"],
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
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora(told),
        callbacks=[Stepped()],
        **(by_model if told["reward"] is None else {"reward_funcs": by_text}),
    )
    turns.write = trainer.accelerator.unwrap_model(trainer.model).save_pretrained
    turns.ready()
    trainer.train()


if __name__ == "__main__":
    with suppress(Ended), tempfile.TemporaryDirectory() as name:
        main(Turns(), name)
