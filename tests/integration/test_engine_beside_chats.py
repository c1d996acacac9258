"""Proving adapters on a real engine while people chat on it: it lives, and each model answers as itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
import torch

from serve.engine_client import EngineClient
from serve.probe import prove
from tests.adapters import random_adapter
from tests.servers import STARTER
from training.publish import probes
from training.trunk import Trunk

pytestmark = pytest.mark.engine
MORE_THAN_THE_SLOTS = 6  # the engine has four
CHAT = {"messages": [{"role": "user", "content": "When do you open?"}], "max_tokens": 48, "stream": True}


class Chats:
    """People who stream from the given models without a pause."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session, self.url = session, url
        self.whole, self.stopping = 0, False

    async def stream(self, model: str) -> None:
        while not self.stopping:
            body = {**CHAT, "model": model}
            async with self.session.post(f"{self.url}/v1/chat/completions", json=body) as reply:
                assert reply.status == 200, await reply.text()
                assert (await reply.read()).endswith(b"data: [DONE]\n\n")
            self.whole += 1


async def test_adapters_are_proved_beside_chats_and_the_base_stays_the_base(
    engine_url: str, tmp_path: Path
) -> None:
    names = [f"beside-{number}" for number in range(MORE_THAN_THE_SLOTS)]
    folders = [random_adapter(tmp_path / name, seed, rank=16) for seed, name in enumerate(names, start=50)]
    trunk = Trunk.load(str(STARTER), dtype=torch.float32, threads=1, device="cpu")
    async with aiohttp.ClientSession() as session:
        client = EngineClient(engine_url, "", session, connect_seconds=2.0, silence_seconds=60.0)
        await client.load(names[0], str(folders[0]))
        chats = Chats(session, engine_url)
        running = [asyncio.create_task(chats.stream(model)) for model in ("base", "base", names[0])]
        for name, folder in zip(names[1:], folders[1:], strict=True):
            await client.load(name, str(folder))
            told = await asyncio.to_thread(probes, trunk, folder)
            await prove(client, name, "base", told, tolerance=1e-3, told={})
        chats.stopping = True
        await asyncio.gather(*running)
        assert chats.whole >= 3
        for name in names:
            await client.unload(name)
