"""Rollouts by a real engine while people chat on it: its tokens, and log-probabilities that are the trainer's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import pytest
import torch
from torch import Tensor

from tests.adapters import random_adapter
from tests.integration.test_engine_beside_chats import Chats
from tests.servers import STARTER
from tests.unit.training.tiny import ask
from training.engine_rollouts import EngineSampler
from training.engines import Engine
from training.forward import Forward
from training.packing import Tokens
from training.ppo import train
from training.ppo_config import PPOConfig
from training.reference import Seen
from training.rollouts import Reply, Sampler
from training.trunk import WEIGHTS_FILE, Trunk

pytestmark = pytest.mark.engine
PROMPTS = [
    ask(text)
    for text in ("When do you open?", "Thank you!", "Can I come with a dog?", "I want to complain.")
    for _ in range(4)
]
CLOSE = 1e-3  # nats, on the mean of a token, where both compute in float32


@pytest.fixture
async def chats(engine_url: str) -> AsyncIterator[Chats]:
    """People who chat with the base; every one of their chats is whole."""
    async with aiohttp.ClientSession() as session:
        chats = Chats(session, engine_url)
        running = [asyncio.create_task(chats.stream("base")) for _ in range(2)]
        yield chats
        chats.stopping = True
        await asyncio.gather(*running)
        assert chats.whole >= 2


@pytest.fixture(scope="module")
def trunk() -> Trunk:
    return Trunk.load(str(STARTER), dtype=torch.float32, threads=1, device="cpu")


@torch.no_grad()
def by_the_trainer(trunk: Trunk, name: str | None, replies: Sequence[Reply]) -> Tensor:
    """Log-probabilities of all tokens of the replies."""
    asked = [Tokens(reply.prompt_ids, reply.token_ids) for reply in replies]
    parts = Forward(trunk, name).over(
        asked,
        lambda packed, passed: list(zip(packed.indices, passed.logprobs.split(packed.sizes), strict=True)),
    )
    found = dict(pair for part in parts for pair in part)
    return torch.cat([found[index] for index in range(len(asked))])


async def test_an_engine_tells_the_tokens_that_it_drew_and_the_trainers_log_probabilities(
    engine_url: str, trunk: Trunk, tmp_path: Path, chats: Chats
) -> None:
    trunk.add("policy", random_adapter(tmp_path / "made", 60, scale=0.08, rank=16))
    engine = Engine(engine_url)
    before = engine.adapters()
    sampler = EngineSampler(trunk, [engine], tmp_path / "adapters")
    await asyncio.to_thread(sampler.refresh, "policy")
    assert len(engine.adapters() - before) == 1
    one = await asyncio.to_thread(sampler.sample, PROMPTS, max_tokens=24)
    await asyncio.to_thread(sampler.close)
    assert engine.adapters() == before
    assert list((tmp_path / "adapters").iterdir()) == []
    told = torch.cat([torch.tensor(reply.logprobs) for reply in one])
    assert float((told - by_the_trainer(trunk, "policy", one)).abs().mean()) < CLOSE
    assert float((told - by_the_trainer(trunk, None, one)).abs().mean()) > 20 * CLOSE  # not the base's
    assert [reply.prompt_ids for reply in one] == [trunk.prompt_ids(prompt) for prompt in PROMPTS]
    for reply in one:
        assert reply.finish_reason == ("stop" if reply.token_ids[-1] == trunk.end else "length")
        assert trunk.end not in reply.token_ids[:-1]
        assert len(reply.token_ids) == 24 or reply.finish_reason == "stop"
    assert len({reply.token_ids for reply in one}) > 8  # four of a prompt are drawn apart


def likes_brief_replies(seen: Sequence[Seen]) -> Tensor:
    return -torch.tensor([len(one.tokens.reply) / 24 for one in seen])


async def test_ppo_learns_from_an_engines_replies_and_leaves_nothing_there(
    engine_url: str, trunk: Trunk, tmp_path: Path, chats: Chats, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Sampler, "sample", never)
    config = PPOConfig(
        max_seconds=1e9, max_steps=2, prompts=4, group=4, max_tokens=24, minibatch=2, value_warmup=0, correct=True
    )  # fmt: skip
    engine = Engine(engine_url)
    before = engine.adapters()
    sampler = EngineSampler(trunk, [engine], tmp_path / "adapters")
    report = await asyncio.to_thread(
        train, trunk, PROMPTS[::4], likes_brief_replies, config, out=tmp_path / "out", sampler=sampler
    )
    await asyncio.to_thread(sampler.close)
    assert (report.steps, report.samples) == (2, 32)
    assert max(point["mismatch_nats"] for point in report.curve) < CLOSE
    assert report.curve[1]["mismatch_nats"] > 0  # it was not the trainer who sampled
    assert report.masked == 0.0
    assert report.curve[1]["kl_nats"] != 0.0  # the second step's policy is another than the base
    assert (tmp_path / "out" / WEIGHTS_FILE).is_file()
    assert engine.adapters() == before
    assert list((tmp_path / "adapters").iterdir()) == []
