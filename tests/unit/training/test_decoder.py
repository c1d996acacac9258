"""The decoder computes what transformers computes, in one reading and token by token."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.unit.training.conftest import Loader
from tests.unit.training.tiny import FAMILIES
from training.decoder import Decoder, supports
from training.packing import Tokens, pack
from training.trunk import Trunk

CONVERSATIONS = [Tokens((5, 6, 7), (8, 9, 10, 1)), Tokens((11, 12, 13, 14, 15), (16, 1))]


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def one(request: pytest.FixtureRequest, tiny: Loader) -> Trunk:
    return tiny(request.param)


def decoder_of(trunk: Trunk, dtype: torch.dtype = torch.float32) -> Decoder:
    made = Decoder(trunk.base, trunk.frozen(), dtype)
    made.reach(64)
    return made


@torch.no_grad()
def by_transformers(trunk: Trunk, ids: tuple[int, ...]) -> Any:
    with trunk.using(None) as model:
        return model(input_ids=torch.tensor([ids]), output_hidden_states=True)


@torch.no_grad()
def test_states_and_logits_are_those_of_transformers(one: Trunk) -> None:
    assert supports(one.base.config)
    decoder = decoder_of(one)
    for conversation in CONVERSATIONS:
        (packed,) = pack([conversation])
        states = decoder.read(packed)
        wanted = by_transformers(one, conversation.prompt + conversation.reply)
        assert len(states) == len(wanted.hidden_states) == one.depth
        for ours, theirs in zip(states, wanted.hidden_states, strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(decoder.logits(states[-1]), wanted.logits, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_prompts_read_into_slots_and_continued_give_the_logits_of_one_full_reading(one: Trunk) -> None:
    decoder = decoder_of(one)
    cache = decoder.cache(4, 12)
    slots = [torch.tensor([2]), torch.tensor([0, 3])]  # of unequal length; the second prompt in two slots
    logits = decoder.prefill(cache, [c.prompt for c in CONVERSATIONS], slots)
    steps = [[logits[0]], [logits[1]]]
    for place in range(2):  # both replies are at least two tokens long
        first, second = (c.reply[place] for c in CONVERSATIONS)
        tokens = torch.tensor([second, 0, first, second])
        told = decoder.step(cache, tokens, torch.tensor([5 + place, 0, 3 + place, 5 + place]))
        steps[0].append(told[2])
        steps[1].append(told[0])
        torch.testing.assert_close(told[0], told[3])
    for conversation, seen in zip(CONVERSATIONS, steps, strict=True):
        whole = by_transformers(one, conversation.prompt + conversation.reply[:2]).logits[0, -3:]
        torch.testing.assert_close(torch.stack(seen), whole, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_a_cache_that_keeps_some_slots_goes_on_as_before(trunk: Trunk) -> None:
    decoder = decoder_of(trunk)
    cache = decoder.cache(3, 8)
    decoder.prefill(cache, [(5, 6), (7, 8), (9, 10)], [torch.tensor([slot]) for slot in range(3)])
    kept = cache.keep(torch.tensor([2, 0]))
    all_three = decoder.step(cache, torch.tensor([11, 12, 13]), torch.tensor([2, 2, 2]))
    two = decoder.step(kept, torch.tensor([13, 11]), torch.tensor([2, 2]))
    torch.testing.assert_close(two, all_three[[2, 0]])


@torch.no_grad()
def test_bfloat16_stays_close_to_float32(trunk: Trunk) -> None:
    (packed,) = pack(CONVERSATIONS[:1])
    exact, rough = (
        d.logits(d.read(packed)[-1]).log_softmax(-1)
        for d in (decoder_of(trunk), decoder_of(trunk, torch.bfloat16))
    )
    assert 0 < float((exact - rough).abs().max()) < 0.25
    assert float((exact - rough).abs().mean()) < 0.05


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {"attention_bias": True}),  # a bias behind the attention
        ("llama", {"mlp_bias": True}),
        ("qwen3", {"attention_bias": True}),
        ("mistral", {"sliding_window": 4}),
        ("llama", {"hidden_act": "gelu"}),
        ("granite", {}),  # multiplies embeddings and logits
    ],
)
def test_what_it_would_compute_differently_it_does_not_support(
    tiny: Loader, family: str, settings: dict[str, Any]
) -> None:
    assert not supports(tiny(family, **settings).base.config)
