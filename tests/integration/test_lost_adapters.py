"""An engine dies while the other one has not its adapter yet: chats wait for it there, and change no arm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from feedback.protocols import Arm, ExperimentRecord
from serve.engines import Engine
from tests.unit.serve.fake_engine import FakeEngine, fake_engine
from tests.unit.serve.folders import PLAIN, adapter_folder, record_of
from tests.unit.serve.running import Running, running, until

ADAPTER = f"a-000001-{PLAIN}"


@dataclass
class Two:
    """A gateway before two engines that hold the adapter, which is live."""

    up: Running
    fakes: tuple[FakeEngine, FakeEngine]

    def engine(self, number: int) -> Engine:
        return self.up.gateway.pool.engines[number]

    async def lost_on_the_first(self, seconds: float) -> None:
        """The first engine has lost the adapter and takes ``seconds`` to load it again; no chat has seen it yet."""
        self.fakes[0].wait_to_load = seconds
        self.fakes[0].adapters.clear()
        await until(lambda: ADAPTER not in self.engine(0).ready)

    async def served_by(self, model: str = "heed") -> tuple[int, str | None, str | None]:
        status, _, headers = await self.up.chat(model=model, headers={"Heed-Debug": "1"})
        return status, headers.get("Heed-Adapter"), headers.get("Heed-Engine")


@pytest.fixture
async def two(tmp_path: Path, store: redis.Redis, valkey_url: str, base: Path) -> AsyncIterator[Two]:
    async with (
        fake_engine() as one,
        fake_engine() as other,
        running(
            tmp_path / "data",
            engines=[one.url, other.url],
            redis_url=valkey_url,
            model=str(base),
            adapter_wait_seconds=120,
        ) as up,
    ):
        one.log_probability = other.log_probability = {ADAPTER: -0.5}
        adapter_folder(up.gateway.settings.adapters_dir, ADAPTER, base)
        up.gateway.registry.add_adapter(record_of(ADAPTER))
        await until(lambda: all(ADAPTER in engine.ready for engine in up.gateway.pool.engines))
        up.gateway.registry.promote("heed", ADAPTER, "test")
        await until(lambda: up.gateway.table.aliases["heed"].live == ADAPTER)
        yield Two(up, (one, other))


@pytest.mark.parametrize("model", ["heed", f"heed:{ADAPTER}"])
async def test_a_chat_whose_engine_dies_waits_for_its_adapter_on_the_other(two: Two, model: str) -> None:
    await two.lost_on_the_first(0.5)
    two.fakes[1].break_before_first = True
    assert await two.served_by(model) == (200, ADAPTER, "engine-0")


async def test_chats_that_come_while_the_live_adapter_is_nowhere_wait_for_it(two: Two) -> None:
    await two.lost_on_the_first(0.5)
    two.fakes[1].healthy = False
    await until(lambda: not two.engine(1).up)
    answers = await asyncio.gather(*(two.served_by() for _ in range(4)))
    assert answers == [(200, ADAPTER, "engine-0")] * 4


async def test_an_arm_whose_engine_dies_stays_the_arm(two: Two) -> None:
    arms = (Arm(name="new", adapter=ADAPTER, share=1.0), Arm(name="control", adapter=None, share=0.0))
    two.up.gateway.registry.put_experiment(ExperimentRecord(name="e", alias="heed", arms=arms, salt="x"))
    await until(lambda: "heed" in two.up.gateway.table.running)
    await two.lost_on_the_first(1.5)  # longer than an arm without a place is waited for
    two.fakes[1].break_before_first = True
    assert await two.served_by() == (200, ADAPTER, "engine-0")


async def test_with_no_engine_left_that_could_load_it_the_answer_comes_at_once(two: Two) -> None:
    two.fakes[0].healthy = False
    await until(lambda: not two.engine(0).up)
    two.fakes[1].break_before_first = True
    status, _, _ = await asyncio.wait_for(two.served_by(), 60)
    assert status == 502
