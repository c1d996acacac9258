"""The canaries on what is live, by the real schedule: what passes stays, what fails is told and rolled back."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import redis
import torch

from deploy.local import next_database, worker_programs
from deploy.settings import LaunchSettings
from feedback.protocols import AdapterRecord
from feedback.registry import RedisRegistry
from feedback.store import connect
from tests.servers import ROOT, gateway_server, process, wait_until
from tests.unit.serve.fake_engine import fake_engine_aside
from tests.unit.training.tiny import ask, save_tiny
from training import publish
from training.examples import Demonstration
from training.sft import SFTConfig, fit
from training.trunk import Trunk

PROMPTS = [f"how much is it for {number}?" for number in range(24)]
SAME = {"prompt_token_ids": [1], "completion_token_ids": [2], "logprobs": [-1.0], "base_logprobs": [-1.0]}
"""A probe with what the fake engine answers, whatever it holds."""


@dataclass
class Heed:
    """Store, gateway, both workers and the schedule, over a tiny base and a fake engine."""

    url: str
    registry: RedisRegistry
    trunk: Trunk
    made: Path  # folder of adapters
    data: Path

    def chat(self, prompt: str = "hello") -> str:
        """The adapter that answered."""
        body = {"model": "heed", "messages": ask(prompt), "user": "eve"}
        headers = {"Content-Type": "application/json", "Heed-Debug": "1"}
        asked = urllib.request.Request(f"{self.url}/v1/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(asked, timeout=120) as reply:
            return str(reply.headers["Heed-Adapter"])

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=120) as reply:
            return str(reply.read().decode())

    def make_live(self, name: str) -> AdapterRecord:
        """Publish and promote, and wait until people are answered by it."""
        origin, folder = publish.Origin(alias="heed"), self.made / name
        record = publish.publish(self.registry, self.trunk, folder, origin, self.data / "adapters")
        self.registry.promote("heed", record.id, "chosen")
        self.wait(lambda: self.chat() == record.id, f"a reply by {record.id}")
        return record

    def looked_at(self, adapter: str) -> dict[str, Any]:
        """What the schedule's next look at it told."""
        self.wait(lambda: (self.told().get("canaries") or {}).get("adapter") == adapter, "a look")
        return self.told()

    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.get("/v1/loop"))
        return told

    def wait(self, ready: Callable[[], bool], what: str) -> None:
        wait_until(ready, 180, what, self.data / "worker.log")


@pytest.fixture
def heed(
    tmp_path: Path, store: redis.Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Heed]:
    monkeypatch.setattr(publish, "probes", lambda *_: [SAME])
    data, model = tmp_path / "data", save_tiny(tmp_path / "model")
    trunk = Trunk.load(str(model), dtype=torch.float32, threads=1, device="cpu")
    make_adapters(trunk, tmp_path)
    env = {
        "HEED_DATA_DIR": str(data),
        "HEED_REDIS_URL": valkey_url,
        "HEED_BROKER_URL": next_database(valkey_url),
        "HEED_MODEL": str(model),
        "HEED_TRAINING_THREADS": "1",
        "HEED_TICK_SECONDS": "0.2",  # the canaries' turn comes every six seconds
        "HEED_CANARY_HOURS": "1e-4",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "",  # as `heed up`: workers spend most of their time on imports without
    }
    with ExitStack() as held:
        engine = held.enter_context(fake_engine_aside())
        url, _ = held.enter_context(gateway_server(data, valkey_url, engine.url, ready="healthz", **env))
        (data / "run").mkdir()
        for program in worker_programs(LaunchSettings(data_dir=data), env):
            held.enter_context(process(program.command, data / f"{program.label}.log", program.env))
        yield Heed(url, RedisRegistry(connect(valkey_url)), trunk, tmp_path, data)


def make_adapters(trunk: Trunk, folder: Path) -> None:
    """One that answers as the base does, and one that has learnt to only ask back."""
    trunk.add("as the base")
    trunk.write("as the base", folder / "sound")
    shown = [Demonstration(tuple(ask(prompt)), "why?") for prompt in PROMPTS]
    fit(trunk, shown, SFTConfig(epochs=12, minibatch=4, learning_rate=1e-2), out=folder / "asks")


@pytest.mark.timeout(600)
def test_the_schedule_leaves_a_sound_adapter_and_rolls_back_one_that_only_asks_back(
    heed: Heed,
) -> None:
    alias = heed.registry.alias("heed")
    heed.registry.put_alias(replace(alias, thresholds={"gate_max_asking_back": 0.1}))
    assert {heed.chat(prompt) for prompt in PROMPTS} == {"base"}

    sound = heed.make_live("sound").id
    told = heed.looked_at(sound)
    assert (told["canaries"]["broken"], told["live"]) == ([], sound)
    assert "in good order" in told["canaries"]["what"]
    assert told["canaries"]["seen"][0]["replies"] >= 2 * len(PROMPTS)
    assert told["canary_incidents"] is None
    assert 'heed_canary_broken{alias="heed",canary="asking_back"} 0.0' in heed.get("/metrics")

    asks = heed.make_live("asks").id
    told = heed.looked_at(asks)
    assert told["canaries"]["broken"] == ["asking_back"]
    assert [(one["adapter"], one["broken"]) for one in told["canary_incidents"]] == [(asks, ["asking_back"])]
    assert told["live"] == sound
    left = heed.registry.adapter(asks)
    assert (left.state, (left.reason or "").split(" in ")[0]) == ("rejected", "canaries: asking_back")
    assert heed.chat() == sound
    assert 'heed_canary_broken{alias="heed",canary="asking_back"} 1.0' in heed.get("/metrics")
    assert told["workers"]["canaries"].keys() == {"last_success", "seconds"}
