"""One frozen base in memory that carries every adapter; the reference is the base with adapters off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from feedback.events import Message


@dataclass(frozen=True)
class LoraShape:
    """The shape of every adapter. Rank ≤ 16 is what a stock engine here is started with."""

    rank: int = 16
    alpha: int = 32


@dataclass
class Trunk:
    """The base, its tokenizer and the adapters on it."""

    model_path: str
    tokenizer: Any
    model: Any  # PeftModel
    shape: LoraShape = field(default_factory=LoraShape)

    @classmethod
    def load(cls, model_path: str, *, dtype: torch.dtype | None = None, threads: int | None = None) -> Trunk:
        """Read the base; float32 unless asked otherwise."""
        if threads:
            torch.set_num_threads(threads)
        tokenizer = AutoTokenizer.from_pretrained(model_path)
        base = AutoModelForCausalLM.from_pretrained(model_path, dtype=dtype or torch.float32)
        base.requires_grad_(requires_grad=False)
        shape = LoraShape()
        model = get_peft_model(base, _lora(shape), adapter_name="policy")
        return cls(model_path, tokenizer, model, shape)

    @property
    def end(self) -> int:
        """The token that ends a reply."""
        return int(self.tokenizer.eos_token_id)

    def add(self, name: str, start: Path | None = None) -> None:
        """A new adapter, zero or read from a stock PEFT folder; replaces one of that name."""
        if name in self.model.peft_config:
            self.model.delete_adapter(name) if len(self.model.peft_config) > 1 else None
        if name not in self.model.peft_config:
            self.model.add_adapter(name, _lora(self.shape))
        if start is not None:
            set_peft_model_state_dict(
                self.model, load_file(start / "adapter_model.safetensors"), adapter_name=name
            )

    @contextmanager
    def using(self, name: str | None) -> Iterator[Any]:
        """The model under one adapter; None: the reference."""
        if name is None:
            with self.model.disable_adapter():
                yield self.model
        else:
            self.model.set_adapter(name)
            yield self.model

    def parameters(self, name: str) -> list[nn.Parameter]:
        """The weights of one adapter, made trainable."""
        self.model.set_adapter(name)
        return [weight for key, weight in self.model.named_parameters() if f".{name}." in key]

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Tokens up to where the reply begins."""
        text = self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def reply_ids(self, reply: str) -> list[int]:
        """Tokens of a whole reply, its end included."""
        return [*self.tokenizer(reply, add_special_tokens=False)["input_ids"], self.end]


def _lora(shape: LoraShape) -> LoraConfig:
    return LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def pad(rows: Sequence[Sequence[int]], value: int) -> tuple[Tensor, Tensor]:
    """Right-padded ids and mask, both (rows, longest)."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), value)
    mask = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    return ids, mask
