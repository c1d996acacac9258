"""Random models of some 20,000 parameters with a tokenizer of letters, saved the way transformers saves models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from feedback.events import Message

LETTERS = "abcdefghijklmnopqrstuvwxyz .!?0123456789"
TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}~{% endfor %}"
    "{% if add_generation_prompt %}>{% endif %}"
)
SHAPE: dict[str, Any] = {
    "vocab_size": len(LETTERS) + 4,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "bos_token_id": None,
    "initializer_range": 0.2,
}
FAMILIES: dict[str, dict[str, Any]] = {  # what each shows: heads normed and narrow, untied, biased, neither
    "qwen3": {"tie_word_embeddings": True, "head_dim": 12},
    "llama": {"tie_word_embeddings": False},
    "qwen2": {"tie_word_embeddings": True},
    "mistral": {"tie_word_embeddings": False, "sliding_window": None},
}


def save_tiny(folder: Path, family: str = "qwen3", seed: int = 0, **settings: Any) -> Path:
    """Write model and tokenizer; returns the folder. ``settings`` go over the family's."""
    vocabulary = {"<pad>": 0, "<end>": 1, "~": 2, ">": 3} | {c: i + 4 for i, c in enumerate(LETTERS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(str(folder))
    torch.manual_seed(seed)
    told = SHAPE | FAMILIES.get(family, {}) | settings
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **told), dtype=torch.float32)
    for name, weight in model.named_parameters():  # biases and norms begin as constants: make them count
        if weight.dim() == 1:
            torch.nn.init.normal_(weight, 1.0 if "norm" in name else 0.0, 0.2)
    model.save_pretrained(str(folder))
    return folder


def ask(text: str) -> list[Message]:
    """A conversation of one question."""
    return [{"role": "user", "content": text}]
