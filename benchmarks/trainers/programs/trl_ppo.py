"""TRL's PPO, a turn at a time, on the same base, LoRA, prompts, lengths and epochs.

``critic`` is ``full``, as TRL has it, or ``head``: only the head of the value model learns, on frozen states. The
reward is what is told (``rewarding``), or a random model of the base's size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from benchmarks.trainers.programs.lora import lora
from benchmarks.trainers.programs.rewarding import rewarding
from benchmarks.trainers.programs.turns import Ended, Turns


def _by_text(
    told: dict[str, Any],
    tokenizer: Any,
    rows: list[dict[str, Any]],
    reward: Any,
    of_model: Callable[..., Any],
) -> Callable[..., Any]:
    """In place of TRL's ``get_reward``: the ``reward`` model's scores are those of the text that are told, the value
    model's stay. ``rows`` are the prompts' in order.
    """
    worth = rewarding(told["reward"])
    asked = {
        tuple(row["input_ids"]): one[-1]["content"] for row, one in zip(rows, told["prompts"], strict=True)
    }

    def scored(model: Any, both: Any, pad: int, context: int) -> Any:
        if model is not reward:
            return of_model(model, both, pad, context)
        texts = tokenizer.batch_decode(both[:, context:], skip_special_tokens=True)
        queries = [tuple(one[one != pad].tolist()) for one in both[:, :context]]
        worths = [worth(asked[query], text) for query, text in zip(queries, texts, strict=True)]
        return None, both.new_tensor(worths, dtype=reward.dtype), None

    return scored


def _config(told: dict[str, Any], folder: str, samples: int) -> Any:
    """TRL's settings for the work that is told; a step is of so many ``samples``."""
    from trl.experimental.ppo import PPOConfig

    return PPOConfig(
        output_dir=folder,
        total_episodes=10**9,
        per_device_train_batch_size=samples,
        seed=told["seed"],
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
    from trl.experimental.ppo import PPOTrainer, ppo_trainer

    told = turns.settings
    torch.set_num_threads(told["threads"])
    torch.manual_seed(told["seed"])
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
    samples = told["step"] * told["group"]
    sizes: list[int] = []
    generation = ppo_trainer.batch_generation

    def counted(model: Any, queries: Any, *rest: Any) -> Any:
        made, logits = generation(model, queries, *rest)
        sizes.append(int((made[:, queries.shape[1] :] != tokenizer.pad_token_id).sum()))
        return made, logits

    ppo_trainer.batch_generation = counted
    if told["reward"] is not None:
        ppo_trainer.get_reward = _by_text(
            told, tokenizer, rows[:: told["group"]], reward, ppo_trainer.get_reward
        )

    class Stepped(TrainerCallback):  # type: ignore[misc] # it carries no types
        def on_step_end(self, *_: Any, **__: Any) -> None:
            turns.stepped(samples, sizes.pop())

    trainer = PPOTrainer(
        args=_config(told, folder, samples),
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
    turns.write = trainer.accelerator.unwrap_model(trainer.model).policy.save_pretrained
    turns.ready()
    trainer.train()


if __name__ == "__main__":
    with suppress(Ended), tempfile.TemporaryDirectory() as name:
        main(Turns(), name)
