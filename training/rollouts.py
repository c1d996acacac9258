"""Sampling replies in process: a merged copy of base and adapter, a KV cache, finished rows let go.

The copy's weights are ``W + scale·B·A``, computed anew from the frozen base each time (merging and unmerging
in place drifts, trl#6688), so sampling log-probabilities are those of the adapter itself.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from feedback.events import Message
from training.trunk import Trunk


@dataclass(frozen=True, slots=True)
class Reply:
    """One sampled reply."""

    text: str
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]  # the end token included when there is one
    logprobs: tuple[float, ...]  # natural log, at the sampling temperature, one per token
    finish_reason: str  # "stop" or "length"


class Sampler:
    """Replies of one adapter (None: the base). ``refresh`` takes up new weights."""

    def __init__(self, trunk: Trunk, adapter: Path | None = None) -> None:
        self._trunk = trunk
        base = trunk.model.get_base_model()
        self._plain = copy.deepcopy(_without_lora(base))
        self._originals = {name: weight.detach().clone() for name, weight in self._plain.named_parameters()}
        self._plain.eval()
        if adapter is not None:
            self._merge(load_file(adapter / "adapter_model.safetensors"))

    def refresh(self, name: str) -> None:
        """Merge the trunk's adapter ``name`` as it is now."""
        state = {
            key.replace(f".{name}.weight", ".weight"): weight.detach()
            for key, weight in self._trunk.model.named_parameters()
            if f".{name}.weight" in key and "lora_" in key
        }
        self._merge(state)

    def _merge(self, state: dict[str, Tensor]) -> None:
        scale = self._trunk.shape.alpha / self._trunk.shape.rank
        weights = dict(self._plain.named_parameters())
        with torch.no_grad():
            for key, a in state.items():
                if ".lora_A." not in key:
                    continue
                name = key.removeprefix("base_model.model.").replace(".lora_A.weight", ".weight")
                b = state[key.replace(".lora_A.", ".lora_B.")]
                weights[name].copy_(self._originals[name] + scale * (b.float() @ a.float()))

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        temperature: float = 1.0,
        max_tokens: int = 80,
        seed: int = 0,
        rows: int = 128,
    ) -> list[Reply]:
        """One reply a prompt, in order; ``rows`` at once, prompts of like length together."""
        ids = [self._trunk.prompt_ids(messages) for messages in prompts]
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        generator = torch.Generator().manual_seed(seed)
        replies: list[Reply | None] = [None] * len(ids)
        for start in range(0, len(order), rows):
            chunk = order[start : start + rows]
            made = self._chunk([ids[index] for index in chunk], temperature, max_tokens, generator)
            for index, (tokens, logprobs, ended) in zip(chunk, made, strict=True):
                text = self._trunk.tokenizer.decode(
                    tokens[:-1] if ended else tokens, skip_special_tokens=True
                )
                finish = "stop" if ended else "length"
                replies[index] = Reply(text, tuple(ids[index]), tuple(tokens), tuple(logprobs), finish)
        return [reply for reply in replies if reply is not None]

    def _chunk(
        self, prompts: list[list[int]], temperature: float, max_tokens: int, generator: torch.Generator
    ) -> list[tuple[list[int], list[float], bool]]:
        end, longest = self._trunk.end, max(map(len, prompts))
        ids = torch.full((len(prompts), longest), end)
        mask = torch.zeros((len(prompts), longest), dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        made: list[tuple[list[int], list[float], bool]] = [([], [], False) for _ in prompts]
        alive, cache = torch.arange(len(prompts)), None
        for _ in range(max_tokens):
            positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            out: Any = self._plain(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            )
            cache = out.past_key_values
            logprobs = torch.log_softmax(out.logits[:, -1].float() / max(temperature, 1e-6), -1)
            token = _draw(logprobs, temperature, generator)
            chosen = logprobs.gather(1, token[:, None])[:, 0]
            for row, value, logprob in zip(alive.tolist(), token.tolist(), chosen.tolist(), strict=True):
                made[row][0].append(value)
                made[row][1].append(logprob)
            going = token != end
            for row in alive[~going].tolist():
                made[row] = (made[row][0], made[row][1], True)
            if not going.any():
                break
            if int(going.sum()) < 0.75 * len(alive):  # let finished rows go; not at each token, copying costs
                alive, token, mask = alive[going], token[going], mask[going]
                cache.batch_select_indices(going.nonzero()[:, 0])
                going = going[going]
            ids = token[:, None]
            mask = torch.cat([mask, torch.ones((len(mask), 1), dtype=torch.long)], 1)
        return [_until_end(tokens, logprobs, end) for tokens, logprobs, _ in made]


def _until_end(tokens: list[int], logprobs: list[float], end: int) -> tuple[list[int], list[float], bool]:
    """Cut behind the first end token: rows may have run on until they were let go."""
    if end not in tokens:
        return tokens, logprobs, False
    size = tokens.index(end) + 1
    return tokens[:size], logprobs[:size], True


def _draw(logprobs: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    if temperature <= 0:
        return logprobs.argmax(-1)
    return torch.multinomial(logprobs.exp(), 1, generator=generator)[:, 0]


def _without_lora(model: Any) -> Any:
    """A copy of the base architecture with the frozen weights alone."""
    plain = type(model)(model.config)
    frozen = {
        name.replace(".base_layer", ""): weight
        for name, weight in model.state_dict().items()
        if "lora_" not in name
    }
    plain.load_state_dict(frozen, strict=False)
    plain.tie_weights()
    return plain.to(next(iter(frozen.values())).dtype)
