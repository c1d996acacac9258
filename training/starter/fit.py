"""Fits the starter model: a plain training loop over dialogs that are made on the fly."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from training.arithmetic import native_bfloat16
from training.starter.packing import IGNORED, Batch, batches
from training.starter.settings import Recipe
from training.starter.vocabulary import DialogEncoder


@dataclass(frozen=True)
class Progress:
    """What the loop tells its caller after every step."""

    step: int
    """Steps done, from 1."""
    loss: float
    """Mean cross-entropy of the step's assistant tokens, in nats."""
    tokens: int
    """Tokens seen so far, padding included."""


def new_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """An untrained Qwen3 with the recipe's sizes, in fp32, from the recipe's seed."""
    config = Qwen3Config(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.key_value_heads,
        head_dim=recipe.head_dim,
        max_position_embeddings=recipe.positions,
        tie_word_embeddings=True,
        use_sliding_window=False,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        initializer_range=0.04,
    )
    torch.manual_seed(recipe.seed)
    model = Qwen3ForCausalLM(config)
    model.generation_config.update(
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=True,
        temperature=1.0,
    )
    return model


def fit(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    recipe: Recipe,
    report: Callable[[Progress], None],
    save: Callable[[], None],
) -> None:
    """Train ``model`` in place for ``recipe.steps`` steps; ``save`` is called now and then and at the end."""
    torch.set_num_threads(recipe.threads)
    optimizer = torch.optim.AdamW(
        _groups(model, recipe.weight_decay), lr=recipe.learning_rate, betas=(0.9, 0.98), eps=1e-8, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, recipe))
    trunk: Callable[..., Tensor] = _Trunk(model)
    if recipe.compile:
        trunk = torch.compile(trunk)
    model.train()
    for step, batch in enumerate(batches(DialogEncoder(tokenizer), recipe), start=1):
        loss = _loss(model, trunk, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        report(Progress(step, loss.item(), step * recipe.rows * recipe.row_tokens))
        if step % recipe.checkpoint_steps == 0 or step == recipe.steps:
            save()
        if step == recipe.steps:
            break
    model.eval()


class _Trunk(nn.Module):
    """The model without its head, as a function of a packed batch."""

    def __init__(self, model: Qwen3ForCausalLM) -> None:
        super().__init__()
        self.model = model.model

    def forward(self, ids: Tensor, positions: Tensor, attention: Tensor) -> Tensor:
        """Hidden states, (B, T, hidden), of ids and positions (B, T) and a mask (B, 1, T, T)."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=native_bfloat16()):
            output = self.model(
                input_ids=ids,
                position_ids=positions,
                attention_mask={"full_attention": attention},
                use_cache=False,
            )
        hidden: Tensor = output.last_hidden_state
        return hidden


def _loss(model: Qwen3ForCausalLM, trunk: Callable[..., Tensor], batch: Batch) -> Tensor:
    """Mean cross-entropy over the labelled positions, a scalar in nats."""
    hidden = trunk(batch.ids, batch.positions, batch.attention)
    labelled = batch.labels != IGNORED
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=native_bfloat16()):
        logits = model.lm_head(hidden[labelled])
    return nn.functional.cross_entropy(logits.float(), batch.labels[labelled])


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; the gains of the norms do not."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    gains = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": gains, "weight_decay": 0.0}]


def rate(step: int, recipe: Recipe) -> float:
    """Share of the peak learning rate at a step (from 0): linear warm-up, then half a cosine to zero."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
