"""Models of Llama's shape (Llama, Mistral, Qwen2, Qwen3), computed without the cost of a general library.

A small model is all overhead: this one fuses the projections, takes adapters as merged weights, writes into a
cache of fixed slots and touches no module, so that sampling, reading and learning share one arithmetic. Numbers
are those of transformers, which a test holds it to; other architectures go through transformers itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor

from training.packing import Packed
from training.recomputing import recomputed

FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})


def supports(config: Any) -> bool:
    """Whether ``Decoder`` computes what transformers computes for this configuration."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    plain = kinds == {"full_attention"} and not getattr(config, "sliding_window", None)
    biased = getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False)
    return config.model_type in FAMILIES and plain and not biased and config.hidden_act == "silu"


@dataclass
class Apart:
    """Matrices side by side, and beside each what an adapter adds to it: W·x + B·A·x, with A as it is to be used."""

    weights: list[Tensor]  # each (out, in)
    down: Tensor | None  # the As, one under the other (n·rank, in); None: no adapter
    ups: list[Tensor]  # the Bs, each (out, rank)


Matrix: TypeAlias = Tensor | Apart


@dataclass
class Layer:
    """One layer's weights, projections fused. Norms stay float32."""

    norm: Tensor
    qkv: Matrix
    qkv_bias: Tensor | None
    query_norm: Tensor | None
    key_norm: Tensor | None
    out: Matrix
    mlp_norm: Tensor
    gate_up: Matrix
    down: Matrix


@dataclass
class Cache:
    """Keys and values of ``slots`` conversations, each (slots, heads, length, size) a layer."""

    keys: list[Tensor]
    values: list[Tensor]

    @property
    def length(self) -> int:
        return int(self.keys[0].shape[2])

    def keep(self, slots: Tensor) -> Cache:
        """Only these slots, in this order."""
        return Cache([k[slots] for k in self.keys], [v[slots] for v in self.values])


class Blocks:
    """What a layer of such a model computes, in ``dtype``."""

    def __init__(self, model: Any, dtype: torch.dtype, device: torch.device) -> None:
        """``model`` gives configuration and rotary table."""
        config = model.config
        self.dtype, self.device = dtype, device
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.size = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.eps = config.rms_norm_eps
        self._rotary = model.base_model.rotary_emb
        self._depth = config.num_hidden_layers
        self._cos = self._sin = torch.empty(0)
        self.reach(1)

    @torch.no_grad()
    def reach(self, length: int) -> None:
        """Have rotations for positions below ``length``; never fewer than before."""
        if length > len(self._cos):
            positions = torch.arange(-(-length // 256) * 256, device=self.device)[None]
            like = torch.zeros((1, 1), device=self.device)
            self._cos, self._sin = (part[0] for part in self._rotary(like, positions))

    def _through(self, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        """One layer over packed conversations. ``x`` (rows, length, hidden)."""
        q, k, v = (part.transpose(1, 2) for part in self._project(layer, x, cos, sin))
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        return self._rest(layer, x, seen.transpose(1, 2).flatten(2))

    def _project(self, layer: Layer, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (…, heads, size), rotated."""
        qkv = product(self._normed(x, layer.norm).to(self.dtype), layer.qkv, layer.qkv_bias)
        qkv = qkv.view(*x.shape[:-1], -1, self.size)
        q, k, v = qkv.split([self.heads, self.kv_heads, self.kv_heads], -2)
        if layer.query_norm is not None and layer.key_norm is not None:
            q, k = self._normed(q.float(), layer.query_norm), self._normed(k.float(), layer.key_norm)
        return _rotated(q, cos, sin).to(self.dtype), _rotated(k, cos, sin).to(self.dtype), v

    def _rest(self, layer: Layer, x: Tensor, seen: Tensor) -> Tensor:
        """From attention's result to the layer's end."""
        x = x + product(seen, layer.out)
        gate, up = product(self._normed(x, layer.mlp_norm).to(self.dtype), layer.gate_up).chunk(2, -1)
        return x + product(F.silu(gate) * up, layer.down)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self.eps)


class Decoder(Blocks):
    """Whole weights in ``dtype``, laid out for decoding."""

    def __init__(
        self, model: Any, weights: Mapping[str, Tensor], dtype: torch.dtype, *, recompute: bool = False
    ) -> None:
        """``model`` gives configuration and rotary table, ``weights`` transformers' names in float32. ``recompute``:
        a pass that learns keeps the states between layers alone, and works a layer out anew for its gradients.
        """
        super().__init__(model, dtype, weights["model.norm.weight"].device)
        self.recompute = recompute
        self.load(weights)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take up new weights."""
        self.embedding = weights["model.embed_tokens.weight"].to(self.dtype)
        head = weights.get("lm_head.weight")
        self.head = self.embedding if head is None else head.to(self.dtype)
        self.norm = weights["model.norm.weight"]
        self.layers = [self._layer(weights, f"model.layers.{index}.") for index in range(self._depth)]

    def _layer(self, weights: Mapping[str, Tensor], at: str) -> Layer:
        def fused(*names: str) -> Tensor:
            return torch.cat([weights[f"{at}{name}.weight"] for name in names]).to(self.dtype)

        qkv = [f"self_attn.{one}_proj" for one in "qkv"]
        bias = [weights[f"{at}{name}.bias"] for name in qkv if f"{at}{name}.bias" in weights]
        return Layer(
            norm=weights[at + "input_layernorm.weight"],
            qkv=fused(*qkv),
            qkv_bias=torch.cat(bias).to(self.dtype) if bias else None,
            query_norm=weights.get(at + "self_attn.q_norm.weight"),
            key_norm=weights.get(at + "self_attn.k_norm.weight"),
            out=fused("self_attn.o_proj"),
            mlp_norm=weights[at + "post_attention_layernorm.weight"],
            gate_up=fused("mlp.gate_proj", "mlp.up_proj"),
            down=fused("mlp.down_proj"),
        )

    def leaves(self) -> tuple[list[Tensor], list[Tensor]]:
        """Put the loaded weights that need gradients aside as roots, and leaves of their values in their place."""
        roots, leaves = [], []
        for layer in self.layers:
            for name in ("qkv", "out", "gate_up", "down"):
                root = getattr(layer, name)
                if isinstance(root, Tensor) and root.requires_grad:
                    leaf = root.detach().requires_grad_()
                    setattr(layer, name, leaf)
                    roots.append(root)
                    leaves.append(leaf)
        return roots, leaves

    def cache(self, slots: int, length: int) -> Cache:
        """Room for ``slots`` conversations of at most ``length`` tokens."""
        shape = (slots, self.kv_heads, length, self.size)
        self.reach(length)
        made = [torch.zeros(shape, dtype=self.dtype, device=self.device) for _ in range(2 * self._depth)]
        return Cache(made[: self._depth], made[self._depth :])

    def read(self, packed: Packed) -> list[Tensor]:
        """Every layer's states (rows, length, hidden) over packed conversations, embeddings first, last normed.

        ``reach`` must cover the positions. Gradients flow into the weights that were loaded.
        """
        x = F.embedding(packed.ids, self.embedding).float()
        cos, sin = self._cos[packed.positions][:, :, None], self._sin[packed.positions][:, :, None]
        mask, states = packed.mask(self.dtype), [x]
        through = recomputed(self._through) if self.recompute else self._through
        for layer in self.layers:
            x = through(layer, x, cos, sin, mask)
            states.append(x)
        return [*states[:-1], self._normed(x, self.norm)]

    def logits(self, states: Tensor) -> Tensor:
        """Normed last states (…, hidden) to float32 logits (…, vocabulary)."""
        return F.linear(states.to(self.dtype), self.head).float()

    def prefill(self, cache: Cache, prompts: Sequence[Sequence[int]], slots: Sequence[Tensor]) -> Tensor:
        """Read prompts; the keys of prompt i go to each of ``slots[i]``. Returns next logits (prompts, vocabulary)."""
        longest = max(map(len, prompts))
        ids = torch.zeros((len(prompts), longest), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt)
        copies = torch.repeat_interleave(torch.arange(len(prompts)), torch.tensor([len(s) for s in slots]))
        where = torch.cat(list(slots))
        x = self.embedding[ids.to(self.device)].float()
        cos, sin = self._cos[:longest, None], self._sin[:longest, None]
        for index, layer in enumerate(self.layers):
            q, k, v = self._project(layer, x, cos, sin)
            cache.keys[index][where, :, :longest] = k.transpose(1, 2)[copies]
            cache.values[index][where, :, :longest] = v.transpose(1, 2)[copies]
            seen = F.scaled_dot_product_attention(
                q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=True
            )
            x = self._rest(layer, x, seen.transpose(1, 2).flatten(2))
        last = torch.tensor([len(prompt) - 1 for prompt in prompts], device=self.device)
        return self._logits(x[torch.arange(len(prompts), device=self.device), last])

    def step(self, cache: Cache, tokens: Tensor, places: Tensor) -> Tensor:
        """One token a slot, at ``places``. Both (slots,). Returns next logits (slots, vocabulary), float32."""
        rows, reach = torch.arange(len(tokens), device=self.device), int(places.max()) + 1
        hidden = torch.arange(reach, device=self.device) > places[:, None]
        mask = torch.zeros(hidden.shape, dtype=self.dtype, device=self.device)
        mask = mask.masked_fill_(hidden, float("-inf"))[:, None, None]
        x = self.embedding[tokens].float()
        cos, sin = self._cos[places][:, None], self._sin[places][:, None]
        for index, layer in enumerate(self.layers):
            q, k, v = self._project(layer, x, cos, sin)
            keys, values = cache.keys[index], cache.values[index]
            keys[rows, :, places], values[rows, :, places] = k, v
            groups = q.view(len(tokens), self.kv_heads, -1, self.size)  # heads that share keys, as queries
            seen = F.scaled_dot_product_attention(
                groups, keys[:, :, :reach], values[:, :, :reach], attn_mask=mask
            )
            x = self._rest(layer, x, seen.reshape(len(tokens), -1))
        return self._logits(x)

    def _logits(self, x: Tensor) -> Tensor:
        return self.logits(self._normed(x, self.norm))


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021). ``x`` (…, heads, size)."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def product(x: Tensor, matrix: Matrix, bias: Tensor | None = None) -> Tensor:
    """``x`` (…, in) to (…, out)."""
    if isinstance(matrix, Tensor):
        return F.linear(x, matrix, bias)
    parts = [F.linear(x, weight) for weight in matrix.weights]
    if matrix.down is not None:
        low = F.linear(x, matrix.down).chunk(len(parts), -1)
        parts = [part + F.linear(one, up) for part, one, up in zip(parts, low, matrix.ups, strict=True)]
    made = torch.cat(parts, -1) if len(parts) > 1 else parts[0]
    return made if bias is None else made + bias
