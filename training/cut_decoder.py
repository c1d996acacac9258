"""Passes over a base that is cut up (``sharding``) by the arithmetic of ``decoder``, a layer at a time.

A layer's weights are there only while it is called. Merged with an adapter or put side by side they would be new
tensors, which autograd keeps, and with them the base; so each matrix stays by itself, and the adapter beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from training.decoder import Apart, Blocks, Layer
from training.packing import Packed


def work_alone(work: Callable[..., Any], *told: Tensor) -> Any:
    """In place of a layer's own computing: whatever it is given to do while its weights are there."""
    return work(*told)


class CutDecoder(Blocks):
    """Reads under the adapter ``name`` (None: the base), whose As count ``scale`` times."""

    def __init__(self, base: Any, name: str | None, scale: float, dtype: torch.dtype) -> None:
        super().__init__(base, dtype, base.base_model.norm.weight.device)
        self._base, self._name, self._scale = base, name, scale

    def read(self, packed: Packed) -> tuple[Tensor, ...]:
        """As ``Decoder.read``. To be called within ``Cut``, whose layers ``work_alone``."""
        self.reach(int(packed.positions.max()) + 1)
        x = self._base.get_input_embeddings()(packed.ids).to(self.dtype).float()
        cos, sin = self._cos[packed.positions][:, :, None], self._sin[packed.positions][:, :, None]
        mask, states = packed.mask(self.dtype), [x]
        for module in self._base.base_model.layers:

            def through(x: Tensor, module: Any = module) -> Tensor:
                return self._through(self._layer(module), x, cos, sin, mask)

            x = module(through, x)
            states.append(x)
        return (*states[:-1], self._normed(x, self._base.base_model.norm.weight))

    def _layer(self, module: Any) -> Layer:
        attention, mlp = module.self_attn, module.mlp
        heads = [attention.q_proj, attention.k_proj, attention.v_proj]
        bias = [one.base_layer.bias for one in heads if one.base_layer.bias is not None]
        norms = (getattr(attention, name, None) for name in ("q_norm", "k_norm"))
        query_norm, key_norm = (None if one is None else one.weight for one in norms)
        return Layer(
            norm=module.input_layernorm.weight,
            qkv=self._apart(heads),
            qkv_bias=torch.cat(bias).to(self.dtype) if bias else None,
            query_norm=query_norm,
            key_norm=key_norm,
            out=self._apart([attention.o_proj]),
            mlp_norm=module.post_attention_layernorm.weight,
            gate_up=self._apart([mlp.gate_proj, mlp.up_proj]),
            down=self._apart([mlp.down_proj]),
        )

    def _apart(self, modules: Sequence[Any]) -> Apart:
        weights = [one.base_layer.weight for one in modules]
        if self._name is None:
            return Apart(weights, None, [])
        down = self._scale * torch.cat([one.lora_A[self._name].weight for one in modules])
        ups = [one.lora_B[self._name].weight.to(self.dtype) for one in modules]
        return Apart(weights, down.to(self.dtype), ups)
