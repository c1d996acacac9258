"""Sampling replies in process: base and adapter merged, a key-value cache, slots refilled as replies end.

Merged weights are ``W + scale·B·A``, computed anew in float32 from the frozen base each time (merging and
unmerging in place drifts, trl#6688), so sampling log-probabilities are those of the adapter itself.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from feedback.events import Message
from training import ranks
from training.decoder import Cache, Decoder, supports
from training.trunk import Trunk

SLOTS = 128
CACHE_TOKENS = SLOTS * 2048
"""Of all slots of a lane together: each has room for the longest prompt, so where one is very long there are fewer."""
REFILL = 0.25  # share of the slots that must be free before new prompts are read


@dataclass(frozen=True, slots=True)
class Reply:
    """One sampled reply."""

    text: str
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]  # the end token included when there is one
    logprobs: tuple[float, ...]  # natural log, at the sampling temperature, one per token
    finish_reason: str  # "stop" or "length"


class Rollouts(Protocol):
    """Whoever samples a policy's replies; each of several processes that train together calls it alike."""

    def refresh(self, name: str) -> None:
        """Take up the trunk's adapter ``name`` as it is now."""
        ...

    def sample(
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        temperature: float = 1.0,
        max_tokens: int = 80,
        seed: int = 0,
    ) -> list[Reply]:
        """One reply a prompt, in order."""
        ...


class Sampler:
    """Replies of one adapter (None: the base). ``refresh`` takes up new weights.

    Where the base is cut up, its weights are gathered for each call of ``sample``, and let go at its end.
    """

    def __init__(self, trunk: Trunk, adapter: Path | None = None) -> None:
        self._trunk = trunk
        self._take_up(functools.partial(trunk.merged_from, adapter) if adapter else trunk.frozen)

    @torch.no_grad()
    def refresh(self, name: str) -> None:
        """Merge the trunk's adapter ``name`` as it is now."""
        held = {key: weight.clone() for key, weight in self._trunk.state(name).items()}
        self._take_up(functools.partial(self._trunk.merged_with, held))

    def _take_up(self, weights: Callable[[], dict[str, Tensor]]) -> None:
        self._weights = weights
        if self._trunk.cut is None:
            self._lay_out()

    def _lay_out(self) -> None:
        if supports(self._trunk.base.config):
            self._decoder = Decoder(self._trunk.base, self._weights(), self._trunk.compute)
        else:
            self._general = _copy_with(self._trunk, self._weights())

    @contextmanager
    def _laid_out(self) -> Iterator[None]:
        """With the weights in memory. A step of all processes, also of one that has nothing to sample."""
        if self._trunk.cut is None:
            yield
            return
        self._lay_out()
        try:
            yield
        finally:
            for held in ("_decoder", "_general"):
                vars(self).pop(held, None)

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[Sequence[Message]],
        *,
        temperature: float = 1.0,
        max_tokens: int = 80,
        seed: int = 0,
        slots: int = SLOTS,
    ) -> list[Reply]:
        """One reply a prompt, in order. Equal prompts next to each other are read once.

        The same weights, prompts, seed, slots and lanes give the same text on one machine; each of several
        processes that train together samples its share, and all get all.
        """
        mine = ranks.share(len(prompts))
        with self._laid_out():
            said = self._sample(prompts[mine], temperature, max_tokens, seed, slots, mine.start)
        return ranks.gathered(said)

    def _sample(
        self,
        prompts: Sequence[Sequence[Message]],
        temperature: float,
        max_tokens: int,
        seed: int,
        slots: int,
        first: int,
    ) -> list[Reply]:
        """The replies of this process, of which the first is the ``first`` of all."""
        if not prompts:
            return []
        ids = self._ids(prompts)
        if not supports(self._trunk.base.config):
            own = seed + first * 1_000_003
            draws = Draws(len(ids), max_tokens, temperature, own, self._trunk.ends)
            _run_general(self._general, ids, draws, slots)
            return [reply_of(self._trunk, prompt, *draws.result(index)) for index, prompt in enumerate(ids)]
        self._decoder.reach(max(map(len, ids)) + max_tokens)
        lanes = self._trunk.lanes

        @torch.no_grad()
        def lane(part: slice) -> list[Reply]:
            draws = Draws(
                part.stop - part.start,
                max_tokens,
                temperature,
                seed * 1_000_003 + first + part.start,
                self._trunk.ends,
            )
            self._run_slots(ids[part], draws, max(1, slots // lanes.count))
            return [
                reply_of(self._trunk, prompt, *draws.result(index)) for index, prompt in enumerate(ids[part])
            ]

        return [reply for part in lanes.map(lane, lanes.split(len(ids))) for reply in part]

    def _ids(self, prompts: Sequence[Sequence[Message]]) -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = []
        for index, messages in enumerate(prompts):
            same = index > 0 and prompts[index - 1] is messages
            found.append(found[-1] if same else self._trunk.prompt_ids(messages))
        return found

    def _run_slots(self, ids: list[tuple[int, ...]], draws: Draws, slots: int) -> None:
        """Longest prompts first, so that the slots hold conversations of like length."""
        waiting = sorted(range(len(ids)), key=lambda index: (len(ids[index]), ids[index], index))
        length = max(map(len, ids)) + draws.most
        slots = max(1, min(slots, len(waiting), CACHE_TOKENS // length))
        cache = self._decoder.cache(slots, length)
        who = torch.full((slots,), -1)  # which reply each slot works on; -1: free
        tokens, places = torch.zeros(slots, dtype=torch.long), torch.zeros(slots, dtype=torch.long)
        while waiting or bool((who >= 0).any()):
            free = (who < 0).nonzero()[:, 0]
            if waiting and len(free) >= min(len(waiting), max(1, int(REFILL * slots))):
                taken = [waiting.pop() for _ in range(min(len(free), len(waiting)))]
                here = free[: len(taken)]
                who[here] = torch.tensor(taken)
                logits = self._read(cache, [ids[index] for index in taken], here)
                places[here] = torch.tensor([len(ids[index]) - 1 for index in taken])
                tokens[here] = draws.take(logits, who[here])
                who[here] = torch.where(draws.done[who[here]], -1, who[here])
            elif not waiting and len(free) > len(who) / 2:
                kept = (who >= 0).nonzero()[:, 0]
                cache, who, tokens, places = cache.keep(kept), who[kept], tokens[kept], places[kept]
            busy = who >= 0
            if not bool(busy.any()):
                continue
            places += busy
            logits = self._decoder.step(
                cache, tokens.to(cache.keys[0].device), places.to(cache.keys[0].device)
            )
            tokens[busy] = draws.take(logits[busy.to(logits.device)], who[busy])
            who[busy] = torch.where(draws.done[who[busy]], -1, who[busy])

    def _read(self, cache: Cache, prompts: list[tuple[int, ...]], slots: Tensor) -> Tensor:
        """Read new prompts into slots, equal ones once. Next logits (prompts, vocabulary)."""
        places: dict[tuple[int, ...], list[int]] = {}
        for place, prompt in enumerate(prompts):
            places.setdefault(prompt, []).append(place)
        unique = list(places)
        logits = self._decoder.prefill(cache, unique, [slots[places[prompt]] for prompt in unique])
        of = {prompt: row for row, prompt in enumerate(unique)}
        return logits[[of[prompt] for prompt in prompts]]


def reply_of(
    trunk: Trunk, prompt: tuple[int, ...], tokens: list[int], logprobs: list[float], ended: bool
) -> Reply:
    """The reply that these tokens are; the last of one that ``ended`` is no text."""
    text = trunk.tokenizer.decode(tokens[:-1] if ended else tokens, skip_special_tokens=True)
    return Reply(text, prompt, tuple(tokens), tuple(logprobs), "stop" if ended else "length")


class Draws:
    """What has been drawn so far: tokens and log-probabilities of every reply."""

    def __init__(self, replies: int, most: int, temperature: float, seed: int, ends: frozenset[int]) -> None:
        self.most, self._temperature = most, temperature
        self._ends = torch.tensor(sorted(ends))
        self._generator = torch.Generator().manual_seed(seed)
        self._tokens = torch.zeros((replies, most), dtype=torch.long)
        self._logprobs = torch.zeros((replies, most))
        self._counts = torch.zeros(replies, dtype=torch.long)
        self._ended = torch.zeros(replies, dtype=torch.bool)
        self.done = torch.zeros(replies, dtype=torch.bool)  # ended, or as long as allowed

    def take(self, logits: Tensor, replies: Tensor) -> Tensor:
        """Draw the next token of each of ``replies`` (n,) from ``logits`` (n, vocabulary)."""
        logprobs = torch.log_softmax(logits.float() / max(self._temperature, 1e-6), -1)
        if self._temperature <= 0:
            tokens = logprobs.argmax(-1)
        else:  # by the inverse of the distribution function: one random number a token
            heaped = logprobs.exp().cumsum(-1)
            point = torch.rand((len(logits), 1), generator=self._generator).to(logits.device) * heaped[:, -1:]
            tokens = torch.searchsorted(heaped, point, right=True)[:, 0].clamp_(max=logits.shape[1] - 1)
        chosen = logprobs.gather(1, tokens[:, None])[:, 0].cpu()
        tokens = tokens.cpu()
        self._tokens[replies, self._counts[replies]] = tokens
        self._logprobs[replies, self._counts[replies]] = chosen
        self._counts[replies] += 1
        self._ended[replies] = torch.isin(tokens, self._ends)
        self.done[replies] = self._ended[replies] | (self._counts[replies] >= self.most)
        return tokens

    def result(self, reply: int) -> tuple[list[int], list[float], bool]:
        """Tokens, log-probabilities, and whether it ended by itself."""
        n = int(self._counts[reply])
        return self._tokens[reply, :n].tolist(), self._logprobs[reply, :n].tolist(), bool(self._ended[reply])


def _copy_with(trunk: Trunk, weights: dict[str, Tensor]) -> Any:
    """A model of the base's architecture that holds ``weights``."""
    with torch.random.fork_rng(devices=[]):  # draws weights of its own, which are not kept
        plain = type(trunk.base)(copy.deepcopy(trunk.base.config)).to(trunk.device)
    plain.load_state_dict(weights, strict=False)
    plain.tie_weights()
    return plain.to(trunk.compute).eval()


def _run_general(model: Any, ids: list[tuple[int, ...]], draws: Draws, slots: int) -> None:
    """Any architecture, through its own forward: chunks of like length, left-padded."""
    order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
    for start in range(0, len(order), slots):
        chunk = order[start : start + slots]
        longest, device = max(len(ids[index]) for index in chunk), model.device
        tokens = torch.zeros((len(chunk), longest), dtype=torch.long, device=device)
        mask = torch.zeros_like(tokens)
        for row, index in enumerate(chunk):
            tokens[row, longest - len(ids[index]) :] = torch.tensor(ids[index])
            mask[row, longest - len(ids[index]) :] = 1
        who, cache = torch.tensor(chunk), None
        while not bool(draws.done[who].all()):
            places = (mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
            out = model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=places,
                past_key_values=cache,
                use_cache=True,
            )
            cache, busy = out.past_key_values, ~draws.done[who]
            tokens = torch.zeros((len(chunk), 1), dtype=torch.long, device=device)
            tokens[busy, 0] = draws.take(out.logits[:, -1][busy], who[busy]).to(device)
            mask = torch.cat([mask, torch.ones_like(tokens)], 1)
