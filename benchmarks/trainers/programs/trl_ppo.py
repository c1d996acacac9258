"""TRL's PPO, a turn at a time, on the same base, LoRA, prompts, lengths and epochs.

``critic`` is ``full``, as TRL has it, or ``head``: only the head of the value model learns, on frozen states.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from typing import Any

from benchmarks.trainers.programs.lora import lora
from benchmarks.trainers.programs.turns import Ended, Turns


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
    from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

    told = turns.settings
    torch.set_num_threads(told["threads"])
    tokenizer = AutoTokenizer.from_pretrained(told["model"], padding_side="left")
    prompts = [
        tokenizer.apply_chat_template(one, tokenize=False, add_generation_prompt=True)
        for one in told["prompts"]
    ]
    rows = [
        {"input_ids": tokenizer(text, add_special_tokens=False)["input_ids"]}
        for text in prompts
        for _ in range(told["group"])
    ]
    policy = AutoModelForCausalLM.from_pretrained(told["model"], dtype=torch.float32)
    value, reward = (
        AutoModelForSequenceClassification.from_pretrained(told["model"], num_labels=1, dtype=torch.float32)
        for _ in range(2)
    )
    if told["critic"] == "head":
        value.requires_grad_(requires_grad=False)
        value.score.requires_grad_(requires_grad=True)
    sizes: list[int] = []
    generation = ppo_trainer.batch_generation

    def counted(model: Any, queries: Any, *rest: Any) -> Any:
        made, logits = generation(model, queries, *rest)
        sizes.append(int((made[:, queries.shape[1] :] != tokenizer.pad_token_id).sum()))
        return made, logits

    ppo_trainer.batch_generation = counted

    class Stepped(TrainerCallback):  # type: ignore[misc] # it carries no types
        def on_step_end(self, *_: Any, **__: Any) -> None:
            turns.stepped(len(rows), sizes.pop())

    settings = PPOConfig(
        output_dir=folder,
        total_episodes=10**9,
        per_device_train_batch_size=len(rows),
        num_mini_batches=told["minibatches"],
        num_ppo_epochs=told["epochs"],
        local_rollout_forward_batch_size=told["forward_batch"],
        response_length=told["max_tokens"],
        learning_rate=told["learning_rate"],
        lr_scheduler_type="constant",
        kl_coef=told["beta"],
        temperature=1.0,
        stop_token="eos",
        missing_eos_penalty=1.0,
        num_sample_generations=0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = PPOTrainer(
        args=settings,
        processing_class=tokenizer,
        model=policy,
        ref_model=None,
        reward_model=reward.eval(),
        value_model=value,
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows[:1]),
        peft_config=lora(told),
        callbacks=[Stepped()],
    )
    turns.ready()
    trainer.train()


if __name__ == "__main__":
    with suppress(Ended), tempfile.TemporaryDirectory() as name:
        main(Turns(), name)
