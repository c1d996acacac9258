"""Forward and backward passes over packed conversations, under one adapter or none, spread over lanes, and over
processes where several train together (``ranks``).

Where ``decoder`` knows the architecture, the adapter is merged into the weights (W + scale·B·A, differentiable)
and whole batches run in lanes. Elsewhere transformers and PEFT do the same one batch after the other; where the base is
cut up (``sharding``), too, they or ``cut_decoder``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from training import ranks
from training.cut_decoder import CutDecoder
from training.decoder import Decoder, supports
from training.packing import Packed, Tokens, pack
from training.trunk import Trunk

Told = TypeVar("Told")


@dataclass(frozen=True)
class Pass:
    """What one packed pass gives. ``t`` reply tokens, as ``Packed`` orders them."""

    logprobs: Tensor  # (t,) natural log, float32
    layers: tuple[Tensor, ...]  # each (rows·length, hidden), embeddings first; empty unless asked for


class Forward:
    """Passes under the adapter ``name`` as it is now; None: the base."""

    def __init__(self, trunk: Trunk, name: str | None) -> None:
        self._trunk, self._name = trunk, name
        self._decoder: Decoder | None = None
        self._cut_decoder: CutDecoder | None = None
        if trunk.cut is not None and supports(trunk.base.config):
            self._cut_decoder = CutDecoder(trunk.base, name, trunk.shape.scale, trunk.compute)
        elif supports(trunk.base.config):
            self._decoder = Decoder(trunk.base, trunk.merged(name), trunk.compute, recompute=trunk.recompute)

    def over(
        self, conversations: Sequence[Tokens], work: Callable[[Packed, Pass], Told], *, states: bool = False
    ) -> list[Told]:
        """``work`` on every packed pass, without gradients. A lane calls it: it must touch nothing shared, and
        what it gives must be on the CPU.
        """

        @torch.no_grad()
        def one(packed: Packed) -> Told:
            return work(packed, self._pass(packed, states=states))

        pieces, idle = self._pieces(conversations)
        told = self._spread(one, pieces)
        with torch.no_grad():
            for packed in idle:
                self._pass(packed, states=states)
        return ranks.gathered(told)

    def learn(
        self, conversations: Sequence[Tokens], loss_of: Callable[[Packed, Tensor], tuple[Tensor, Told]]
    ) -> list[Told]:
        """Add the gradient of the sum of all losses to the adapter's weights: of this process's share of them,
        where there are several, for ``ranks.sum_gradients`` to add up.

        ``loss_of`` takes a packed batch and the log-probabilities (t,) of its reply tokens and gives a loss ()
        and whatever is to be told. Gradients are summed in the order of the batches, so that a run is the same
        on every repetition.
        """
        pieces, idle = self._pieces(conversations)
        if self._decoder is None or not pieces:
            learnt = [self._learn_general(packed, loss_of) for packed in pieces]
            for packed in idle:
                self._learn_general(packed, lambda _, logprobs: (0.0 * logprobs.sum(), None))
            return ranks.gathered(learnt)
        roots, leaves = self._decoder.leaves()

        @torch.enable_grad()
        def one(packed: Packed) -> tuple[Told, tuple[Tensor, ...]]:
            loss, told = loss_of(packed, self._pass(packed, states=False).logprobs)
            return told, torch.autograd.grad(loss, leaves)

        found = self._spread(one, pieces)
        total = [
            sum((part.float() for part in parts[1:]), parts[0].float())
            for parts in zip(*(g for _, g in found), strict=True)
        ]
        torch.autograd.backward(roots, [part.to(root.dtype) for part, root in zip(total, roots, strict=True)])
        return ranks.gathered([told for told, _ in found])

    def _learn_general(
        self, packed: Packed, loss_of: Callable[[Packed, Tensor], tuple[Tensor, Told]]
    ) -> Told:
        loss, told = loss_of(packed, self._pass(packed, states=False).logprobs)
        torch.autograd.backward(loss)
        return told

    def _pieces(self, conversations: Sequence[Tokens]) -> tuple[list[Packed], list[Packed]]:
        """Packed batches, the share of this process: at least one a lane where there are rows enough. And, where the
        base is cut up, such as it passes over for nothing, to make as many passes as the others.
        """
        trunk = self._trunk
        packs = list(
            pack(conversations, pieces=(trunk.lanes.count if trunk.cut is None else 1) * ranks.size())
        )
        mine = packs[ranks.share(len(packs))]
        most = -(-len(packs) // ranks.size()) if trunk.cut is not None else 0
        idle = packs[-1:] * (most - len(mine))  # the shortest
        if self._decoder is not None and mine:
            self._decoder.reach(max(int(packed.positions.max()) for packed in mine) + 1)
        return [packed.to(trunk.device) for packed in mine], [packed.to(trunk.device) for packed in idle]

    def _spread(self, work: Callable[[Packed], Told], pieces: list[Packed]) -> list[Told]:
        if self._decoder is None:  # PEFT's switch between adapters is one for all threads
            return [work(packed) for packed in pieces]
        return self._trunk.lanes.map(work, pieces)

    def _pass(self, packed: Packed, *, states: bool) -> Pass:
        return Pass(*self._trunk.run(lambda: self._read(packed, states=states)))

    def _read(self, packed: Packed, *, states: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The parts of a ``Pass``."""
        layers = self._decoder.read(packed) if self._decoder is not None else self._general(packed)
        flat = layers[-1].reshape(-1, layers[-1].shape[-1])[packed.source]
        logits = self._logits(flat)
        chosen = logits.gather(1, packed.target[:, None])[:, 0]
        told = tuple(layer.reshape(-1, layer.shape[-1]) for layer in layers) if states else ()
        return chosen - logits.logsumexp(-1), told

    def _logits(self, states: Tensor) -> Tensor:
        if self._decoder is not None:
            return self._decoder.logits(states)
        with (
            self._trunk.autocast() if self._cut_decoder is not None else nullcontext()
        ):  # as the decoder does
            return self._trunk.logits(states)

    def _general(self, packed: Packed) -> tuple[Tensor, ...]:
        """Every layer's states (rows, length, hidden), by transformers or over a base that is cut up."""
        trunk = self._trunk
        if self._cut_decoder is not None:
            return self._cut_decoder.read(packed)
        with trunk.using(self._name) as base, trunk.autocast():
            out = base.base_model(
                input_ids=packed.ids,
                attention_mask=packed.mask(trunk.compute),
                position_ids=packed.positions,
                output_hidden_states=True,
                use_cache=False,
            )
        told: tuple[Tensor, ...] = out.hidden_states
        return told
