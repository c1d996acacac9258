"""The largest memory of a process that trains: PPO beside LoRA fine-tuning of the same model.

The model is of the starter's family and words, wider and deeper, with random weights: large enough that its weights
and what a step keeps of it outweigh the libraries. Each trainer runs alone, in a process of its own, for one step
of PPO, or for as many replies fine-tuned on, in as many minibatches; the largest resident memory of the process
counts whole, libraries and all. Fine-tuning is Heed's and, beside it, TRL's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.results import Figure, Row
from benchmarks.trainers.children import child, python_of
from benchmarks.trainers.speed import Contender, Work
from feedback.settings import StoreSettings

BAR = 1.25
CONTENDERS = (
    Contender("heed-sft", "heed", "heed_sft"),
    Contender("trl-sft", "trl", "trl_sft"),
    Contender("heed-ppo", "heed", "heed_ppo", {"advantage": "gae"}),
    Contender("trl-ppo", "trl-1.12", "trl_ppo", {"critic": "full", "forward_batch": 16}),
)
NAMES = {"heed-sft": "fine-tuning here", "trl-sft": "TRL's", "trl-ppo": "TRL 1.12 PPO"}


@dataclass(frozen=True)
class Size:
    """Of the model."""

    hidden_size: int = 768
    intermediate_size: int = 2304
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_key_value_heads: int = 6


def measured(size: Size, work: Work, folder: Path) -> Iterator[Row]:
    """A row a trainer, one after the other."""
    model = _saved(size, folder / "model")
    settings: dict[str, Any] = replace(work, prompts=8).settings() | {"model": str(model)}
    settings["replies"] = _replies(model, work.max_tokens, count=8 * work.group)
    for one in CONTENDERS:
        with child(python_of(one.environment), one.program, folder / f"{one.name}.log", work.threads) as made:
            made.ask(**settings, **one.told)
            row = made.ask(seconds=0.0)
        yield {"part": "memory", "who": one.name, "parameters": _parameters(model), **row}


def _saved(size: Size, folder: Path) -> Path:
    """A random model of this size with the starter's words, as transformers saves one."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    starter = StoreSettings().model_path
    AutoTokenizer.from_pretrained(starter).save_pretrained(str(folder))
    config = AutoConfig.from_pretrained(starter)
    head = size.hidden_size // size.num_attention_heads
    layers = ["full_attention"] * size.num_hidden_layers
    config.update({**vars(size), "head_dim": head, "layer_types": layers})
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(str(folder))
    return folder


def _parameters(model: Path) -> int:
    return sum(path.stat().st_size for path in model.glob("*.safetensors")) // 4


def _replies(model: Path, tokens: int, count: int) -> list[str]:
    """Of about so many tokens each: the random model's own replies would be as long."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(model))
    drawn = torch.randint(10, len(tokenizer), (count, tokens), generator=torch.Generator().manual_seed(1))
    return [tokenizer.decode(row, skip_special_tokens=True) for row in drawn.tolist()]


def figures(rows: Sequence[Row]) -> list[Figure]:
    """One line: PPO's memory, and how many times that of each other."""
    peak = {row["who"]: row["peak_mb"] for row in rows}
    if "heed-ppo" not in peak:
        return []
    mine = peak["heed-ppo"]
    size = rows[0]["parameters"] / 1e6
    beside = [f"{NAMES[who]} {mb:,} MB: {mine / mb:.2f} times" for who, mb in peak.items() if who in NAMES]
    return [
        Figure(
            f"largest memory of a PPO step, {size:.0f} million parameters in float32 (bar: {BAR} times "
            "LoRA fine-tuning of the same model)",
            f"{mine:,} MB",
            "; ".join(beside),
        )
    ]
