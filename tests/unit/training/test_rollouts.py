"""Sampled replies: the text that transformers would give, with the log-probabilities that it would tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.unit.training.conftest import Loader, made_adapter
from tests.unit.training.tiny import ask
from training import rollouts
from training.decoder import Cache, Decoder
from training.rollouts import Draws, Reply, Sampler
from training.trunk import Trunk

PROMPTS = [ask("hello" * (number % 4) + str(number)) for number in range(13)]
SETTINGS: dict[str, dict[str, Any]] = {"qwen3": {}, "llama": {"attention_bias": True}}


@pytest.fixture(scope="module", params=sorted(SETTINGS))  # the second goes through transformers itself
def one(request: pytest.FixtureRequest, tiny: Loader, tmp_path_factory: pytest.TempPathFactory) -> Trunk:
    trunk = tiny(request.param, **SETTINGS[request.param])
    made_adapter(trunk, tmp_path_factory.mktemp("made"))
    return trunk


def sampler_of(trunk: Trunk) -> Sampler:
    sampler = Sampler(trunk)
    sampler.refresh("made")
    return sampler


@torch.no_grad()
def logprobs_of(trunk: Trunk, name: str | None, reply: Reply, temperature: float = 1.0) -> Tensor:
    ids = torch.tensor([[*reply.prompt_ids, *reply.token_ids]])
    with trunk.using(name) as model:
        logprobs = (model(input_ids=ids).logits[0] / temperature).log_softmax(-1)
    return logprobs[len(reply.prompt_ids) - 1 : -1].gather(1, torch.tensor(reply.token_ids)[:, None])[:, 0]


@pytest.mark.parametrize(("temperature", "slots"), [(1.0, 128), (1.0, 4), (0.7, 6)])
def test_log_probabilities_are_those_of_transformers(one: Trunk, temperature: float, slots: int) -> None:
    replies = sampler_of(one).sample(PROMPTS, temperature=temperature, max_tokens=12, seed=5, slots=slots)
    assert {reply.finish_reason for reply in replies} == {"stop", "length"}
    for prompt, reply in zip(PROMPTS, replies, strict=True):
        assert reply.prompt_ids == one.prompt_ids(prompt)
        wanted = logprobs_of(one, "made", reply, temperature)
        torch.testing.assert_close(torch.tensor(reply.logprobs), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("slots", [128, 6, 2])
def test_greedy_replies_are_those_of_transformers_generate_however_few_the_slots(
    one: Trunk, slots: int
) -> None:
    replies = sampler_of(one).sample(PROMPTS, temperature=0.0, max_tokens=12, slots=slots)
    for reply in replies:
        with one.using("made") as model:
            wanted = model.generate(
                torch.tensor([reply.prompt_ids]), do_sample=False, max_new_tokens=12, pad_token_id=0
            )
        assert reply.token_ids == tuple(wanted[0, len(reply.prompt_ids) :].tolist())


@pytest.mark.parametrize("slots", [128, 4])
def test_the_same_seed_slots_and_lanes_give_the_same_replies_and_another_seed_others(
    one: Trunk, slots: int
) -> None:
    sampler = sampler_of(one)
    first, again = (sampler.sample(PROMPTS, max_tokens=12, seed=3, slots=slots) for _ in range(2))
    assert first == again
    assert sampler.sample(PROMPTS, max_tokens=12, seed=4, slots=slots) != first


def test_a_reply_stops_at_the_end_token_or_at_the_most_tokens(one: Trunk) -> None:
    replies = sampler_of(one).sample(PROMPTS * 4, max_tokens=9, seed=1)
    for reply in replies:
        ended = reply.token_ids[-1] == one.end
        assert reply.finish_reason == ("stop" if ended else "length")
        assert one.end not in reply.token_ids[:-1]
        assert len(reply.token_ids) == len(reply.logprobs)
        assert len(reply.token_ids) <= 9 if ended else len(reply.token_ids) == 9
        letters = reply.token_ids[:-1] if ended else reply.token_ids
        assert reply.text == one.tokenizer.decode(letters, skip_special_tokens=True)
    assert {reply.finish_reason for reply in replies} == {"stop", "length"}


def test_one_token_is_a_reply_too(one: Trunk) -> None:
    assert {len(r.token_ids) for r in sampler_of(one).sample(PROMPTS, max_tokens=1, slots=3)} == {1}


def test_nothing_asked_is_nothing_replied(one: Trunk) -> None:
    assert sampler_of(one).sample([]) == []


def test_a_folder_and_the_adapter_in_the_trunk_reply_alike(one: Trunk, tmp_path: Path) -> None:
    one.write("made", tmp_path)
    wanted = sampler_of(one).sample(PROMPTS, max_tokens=8, seed=2)
    assert Sampler(one, tmp_path).sample(PROMPTS, max_tokens=8, seed=2) == wanted
    assert Sampler(one).sample(PROMPTS, max_tokens=8, seed=2) != wanted


def test_refreshing_takes_up_the_weights_as_they_are_now(trunk: Trunk) -> None:
    weights, sampler = trunk.add("moving"), Sampler(trunk)
    sampler.refresh("moving")
    before = sampler.sample(PROMPTS, temperature=0.0, max_tokens=8)
    for weight in weights:
        torch.nn.init.normal_(weight, std=0.2)
    assert sampler.sample(PROMPTS, temperature=0.0, max_tokens=8) == before
    sampler.refresh("moving")
    assert sampler.sample(PROMPTS, temperature=0.0, max_tokens=8) != before


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    wanted = torch.tensor([0.5, 0.3, 0.15, 0.05, 0.0])
    n = 20_000
    draws = Draws(n, 1, 1.0, 7, frozenset({2}))
    tokens = draws.take(wanted.log().expand(n, 5), torch.arange(n))
    shares = torch.bincount(tokens, minlength=5) / n
    deviation = (wanted * (1 - wanted) / n).sqrt()
    assert bool(((shares - wanted).abs() <= 5 * deviation).all())  # and never one of probability 0
    assert draws.result(int((tokens == 2).nonzero()[0]))[2] is True
    assert draws.result(int((tokens == 1).nonzero()[0]))[2] is False


def test_a_temperature_flattens_what_is_drawn() -> None:
    n = 20_000
    draws = Draws(n, 1, 2.0, 7, frozenset())
    tokens = draws.take(torch.tensor([0.8, 0.2]).log().expand(n, 2), torch.arange(n))
    # at temperature 2 the odds 4 : 1 become √4 : 1
    assert float((tokens == 0).float().mean()) == pytest.approx(2 / 3, abs=5 * (2 / 9 / n) ** 0.5)
    first = int((tokens == 0).nonzero()[0])
    assert draws.result(first)[1] == pytest.approx([float(torch.tensor(2 / 3).log())])


def test_replies_draw_apart_though_their_prompts_are_equal(trunk: Trunk) -> None:
    replies = Sampler(trunk).sample([PROMPTS[0]] * 12, max_tokens=8)
    assert len({reply.token_ids for reply in replies}) == 12


def test_where_one_prompt_is_very_long_fewer_reply_at_once(
    trunk: Trunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms: list[int] = []
    plain = Decoder.cache

    def cache(self: Decoder, slots: int, length: int) -> Cache:
        rooms.append(slots * length)
        return plain(self, slots, length)

    monkeypatch.setattr(Decoder, "cache", cache)
    monkeypatch.setattr(rollouts, "CACHE_TOKENS", 1000)
    asked = [ask("a" * 190), *(ask(f"{number}") for number in range(20))]
    replies = Sampler(trunk).sample(asked, max_tokens=4)
    assert len(replies) == 21
    assert all(reply.token_ids for reply in replies)
    assert rooms
    assert max(rooms) <= 1000
