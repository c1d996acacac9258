"""TRL's LoRA fine-tuning, one pass over the replies it is told, as a turn."""

from __future__ import annotations

import tempfile
from contextlib import suppress

from benchmarks.trainers.programs.lora import lora
from benchmarks.trainers.programs.turns import Ended, Turns


def main(turns: Turns, folder: str) -> None:
    """One turn."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    told = turns.settings
    torch.set_num_threads(told["threads"])
    tokenizer = AutoTokenizer.from_pretrained(told["model"])
    prompts, replies = told["prompts"], told["replies"]
    rows = [
        {
            "prompt": prompts[place % len(prompts)],
            "completion": [{"role": "assistant", "content": text}],
        }
        for place, text in enumerate(replies)
    ]
    settings = SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=len(rows) // told["minibatches"],
        num_train_epochs=1,
        learning_rate=told["learning_rate"],
        gradient_checkpointing=False,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(told["model"], dtype=torch.float32),
        args=settings,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows),
        peft_config=lora(told),
    )
    turns.ready()
    trainer.train()
    turns.stepped(len(rows), sum(len(tokenizer(text)["input_ids"]) for text in replies))


if __name__ == "__main__":
    with suppress(Ended), tempfile.TemporaryDirectory() as name:
        main(Turns(), name)
