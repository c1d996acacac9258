"""One frozen base in memory that carries every adapter; the reference is the base with adapters off."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, cast

import orjson
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from feedback.events import Message
from training import ranks, sharding
from training.arithmetic import native_bfloat16
from training.lanes import Lanes
from training.packing import Tokens
from training.recomputing import recompute_layers

Told = TypeVar("Told")
Arithmetic: TypeAlias = Literal["auto", "float32", "bfloat16"]
WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"


@dataclass(frozen=True)
class LoraShape:
    """The shape of every adapter. Rank ≤ 16 is what a stock engine here is started with."""

    rank: int = 16
    alpha: int = 32

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def config(self) -> LoraConfig:
        """PEFT's own; ``all-linear`` leaves the output embedding out."""
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )


@dataclass
class Trunk:
    """The base, its tokenizer and the adapters on it."""

    model_path: str
    tokenizer: Any
    model: Any  # PeftModel
    compute: torch.dtype = torch.float32  # of the matrix products; weights and adapters stay float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    shape: LoraShape = field(default_factory=LoraShape)
    lanes: Lanes = field(default_factory=lambda: Lanes(1))
    cut: sharding.Cut | None = None  # where the processes that train together hold a part of the base each
    recompute: bool = False  # passes that learn keep less and compute more (``recomputing``)

    @classmethod
    def load(
        cls,
        model_path: str,
        *,
        dtype: torch.dtype | Arithmetic = "auto",
        threads: int | None = None,
        device: str | None = None,
        shard: bool = False,
        recompute: bool = False,
    ) -> Trunk:
        """Read the base. ``threads``: lanes of work, all cores unless asked otherwise; where several processes
        train together (``ranks``) those of this one.

        ``dtype`` is that of the arithmetic. ``auto`` is bfloat16 autocast where that is fast: on a GPU, and on a CPU
        with instructions for it; else float32. ``device`` is the GPU where there is one. ``shard`` cuts the base up
        among the processes (``sharding``); raises ValueError where there is one. ``recompute`` is gradient
        checkpointing.
        """
        place = torch.device(device or ranks.device())
        lanes = Lanes((threads or ranks.cores()) if place.type == "cpu" else 1)
        if place.type == "cpu":
            torch.set_num_threads(lanes.count if shard else 1)  # where all pass together, lanes cannot
        tokenizer = AutoTokenizer.from_pretrained(model_path)
        compute = _arithmetic(dtype, place)
        read = functools.partial(_read, model_path)
        cut = sharding.cut(read, place, compute) if shard else None
        base = read().to(place) if cut is None else cut.base
        if recompute:
            recompute_layers(base)
        shape = LoraShape()
        model = get_peft_model(base, shape.config(), adapter_name="policy")
        model.eval()  # no dropout, ever: ratios of probabilities would be noise
        return cls(model_path, tokenizer, model, compute, place, shape, lanes, cut, recompute)

    @property
    def base(self) -> Any:
        """The transformers model with the adapters inside it."""
        return self.model.get_base_model()

    @property
    def hidden(self) -> int:
        """Width of a state."""
        return int(self.model.config.hidden_size)

    @property
    def depth(self) -> int:
        """How many states a token has: one a layer, and its embedding."""
        return int(self.model.config.num_hidden_layers) + 1

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end a reply."""
        found = self.base.generation_config.eos_token_id if self.base.generation_config else None
        many = found if isinstance(found, list) else [found]
        return frozenset(int(one) for one in (*many, self.tokenizer.eos_token_id) if one is not None)

    @property
    def end(self) -> int:
        """The token that a template puts at the end of a reply."""
        return int(self.tokenizer.eos_token_id)

    # --- adapters ---------------------------------------------------------------------------------------

    def add(self, name: str, start: Path | None = None) -> list[nn.Parameter]:
        """A new adapter, zero or read from a stock PEFT folder, in place of one of that name.

        Returns its weights, trainable. Zero means the base itself: B is 0, A random from torch's generator.
        """
        if name not in self.model.peft_config:
            with torch.random.fork_rng(devices=[]):  # draws weights of its own, which are not kept
                self.model.add_adapter(name, self.shape.config())
        for module in self.model.modules():
            if hasattr(module, "reset_lora_parameters"):
                module.reset_lora_parameters(name, init_lora_weights=True)
        if start is not None:
            state = load_file(start / WEIGHTS_FILE, device=str(self.device))
            set_peft_model_state_dict(self.model, state, adapter_name=name)
        weights = self.weights(name)
        ranks.alike(weights)
        return weights

    def weights(self, name: str) -> list[nn.Parameter]:
        """The weights of one adapter, made trainable, in a fixed order."""
        self.model.set_adapter(name)
        return [weight for key, weight in self.model.named_parameters() if f".{name}." in key]

    def state(self, name: str) -> dict[str, Tensor]:
        """The weights of one adapter under stock PEFT's names."""
        return {
            key.replace(f".{name}.", "."): weight.detach()
            for key, weight in self.model.named_parameters()
            if f".{name}." in key
        }

    def write(self, name: str, out: Path) -> None:
        """A stock PEFT folder: ``adapter_config.json`` and ``adapter_model.safetensors``, nothing else."""
        if ranks.is_first():
            self._write(name, out)
        ranks.meet()

    def _write(self, name: str, out: Path) -> None:
        from safetensors.torch import save_file

        out.mkdir(parents=True, exist_ok=True)
        state = {key: weight.cpu().contiguous() for key, weight in self.state(name).items()}
        save_file(state, out / WEIGHTS_FILE, metadata={"format": "pt"})
        config = replace(self.shape.config(), inference_mode=True, base_model_name_or_path=self.model_path)
        # PEFT's own list depends on what else the model holds, and its order on the process
        config.target_modules = sorted({key.split(".")[-3] for key in state})
        config.save_pretrained(str(out))

    @contextmanager
    def using(self, name: str | None) -> Iterator[Any]:
        """The transformers model under one adapter; None: the reference."""
        if name is None:
            with self.model.disable_adapter():
                yield self.base
        else:
            self.model.set_adapter(name)
            yield self.base

    # --- arithmetic -------------------------------------------------------------------------------------

    def merged(self, name: str | None) -> dict[str, Tensor]:
        """Weights of base and adapter together, W + scale·B·A, float32, under transformers' own names.

        Gradients flow into the adapter where they are enabled; what it does not touch shares the base's memory. Where
        the base is cut up all processes must call it alike, and each gets whole weights.
        """
        if name is None:
            return self.frozen()
        adapter = {key: weight for key, weight in self.model.named_parameters() if f".{name}." in key}
        return self.merged_with({key.replace(f".{name}.", "."): weight for key, weight in adapter.items()})

    def merged_from(self, folder: Path) -> dict[str, Tensor]:
        """As ``merged``, with the adapter of a stock PEFT folder, of whatever rank and scale."""
        adapter = load_file(folder / WEIGHTS_FILE, device=str(self.device))
        return self.merged_with(adapter, _scale_of(folder / CONFIG_FILE))

    def merged_with(self, adapter: Mapping[str, Tensor], scale: float | None = None) -> dict[str, Tensor]:
        """As ``merged``, with an adapter's weights under stock PEFT's names; ``scale`` where it is not our shape's."""
        weights, ends = self.frozen(), (".lora_A.weight", ".lora_B.weight")
        for stem in [key.removesuffix(ends[0]) for key in adapter if key.endswith(ends[0])]:
            name = stem.removeprefix("base_model.model.") + ".weight"
            a, b = (adapter[stem + end].float() for end in ends)
            weights[name] = weights[name] + (self.shape.scale if scale is None else scale) * (b @ a)
        return weights

    def frozen(self) -> dict[str, Tensor]:
        """The base's own weights under transformers' names, sharing its memory; where it is cut up, whole copies, for
        which all processes must call it alike.
        """
        return {
            name.replace(".base_layer.", "."): sharding.whole(weight.detach())
            for name, weight in self.base.named_parameters()
            if ".lora_" not in name
        }

    @property
    def base_bytes(self) -> int:
        """Of the base's weights, what this process holds between passes."""
        own = (weight for name, weight in self.base.named_parameters() if ".lora_" not in name)
        return sum(part.numel() * part.element_size() for part in map(sharding.held, own))

    def run(self, work: Callable[[], Told]) -> Told:
        """``work``, which passes through the transformers model once: the way to it where the base may be cut up."""
        return work() if self.cut is None else cast("Told", self.cut(work))

    def logits(self, states: Tensor) -> Tensor:
        """Last states (…, hidden) to float32 logits (…, vocabulary), with what some families add behind it."""
        config = self.model.config
        logits: Tensor = self.base.get_output_embeddings()(states).float()
        logits = logits * getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)
        cap = getattr(config, "final_logit_softcapping", None)
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def autocast(self) -> Any:
        """The context in which matrix products run in ``compute``."""
        return torch.autocast(self.device.type, self.compute, enabled=self.compute != torch.float32)

    # --- text -------------------------------------------------------------------------------------------

    def prompt_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Tokens up to where the reply begins."""
        text = self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def tokens(self, messages: Sequence[Message], reply: str) -> Tokens:
        """A whole conversation, the reply's end included."""
        return Tokens(self.prompt_ids(messages), self.reply_ids(reply))

    def reply_ids(self, reply: str) -> tuple[int, ...]:
        """Tokens of a whole reply, its end included."""
        return (*self.tokenizer(reply, add_special_tokens=False)["input_ids"], self.end)


def _read(model_path: str) -> Any:
    """The base as transformers has it, frozen, in float32."""
    base = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, attn_implementation="sdpa")
    return base.requires_grad_(requires_grad=False)


def _arithmetic(asked: torch.dtype | Arithmetic, device: torch.device) -> torch.dtype:
    """What is asked for; ``auto``: the fastest that training can bear."""
    if isinstance(asked, torch.dtype):
        return asked
    if asked != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[asked]
    return torch.bfloat16 if device.type != "cpu" or native_bfloat16() else torch.float32


def _scale_of(config: Path) -> float:
    """What an adapter's B·A is multiplied by; rank-stabilised LoRA divides by √r (Kalajdzievski 2023)."""
    told = orjson.loads(config.read_bytes())
    rank = float(told["r"])
    return float(told["lora_alpha"]) / (math.sqrt(rank) if told.get("use_rslora") else rank)
