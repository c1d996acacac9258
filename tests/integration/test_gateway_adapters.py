"""Adapters get traffic only once verified, loaded and proved, and leave when nobody uses them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis

from feedback.protocols import Arm, ExperimentRecord
from tests.unit.serve.fake_engine import FakeEngine, fake_engine
from tests.unit.serve.folders import PLAIN, adapter_folder, record_of
from tests.unit.serve.running import Running, running, until

SUBJECTS = 40  # so that each of two arms has some: all in one happens once in 5e11
FIRST, SECOND = f"a-000001-{PLAIN}", f"a-000002-{PLAIN}"


async def first_is_live(up: Running, base: Path) -> None:
    """Published, ready and promoted."""
    publish(up, base, FIRST)
    await until(lambda: FIRST in ready(up))
    up.gateway.registry.promote("heed", FIRST, "test")
    await until(lambda: up.gateway.table.aliases["heed"].live == FIRST)


@pytest.fixture
async def fake() -> AsyncIterator[FakeEngine]:
    async with fake_engine() as engine:
        engine.log_probability = {FIRST: -0.5, SECOND: -0.5}
        yield engine


@pytest.fixture
async def up(
    tmp_path: Path, store: redis.Redis, valkey_url: str, fake: FakeEngine, base: Path
) -> AsyncIterator[Running]:
    async with running(
        tmp_path / "data",
        engines=[fake.url],
        redis_url=valkey_url,
        model=str(base),
        adapter_slots=3,
        adapter_wait_seconds=60,
    ) as gateway:
        yield gateway


def publish(up: Running, base: Path, name: str, **made: Any) -> None:
    adapter_folder(up.gateway.settings.adapters_dir, name, base, **made)
    up.gateway.registry.add_adapter(record_of(name))


def ready(up: Running) -> set[str]:
    return up.gateway.pool.engines[0].ready


async def served_by(up: Running, model: str = "heed", **body: Any) -> str:
    _, _, headers = await up.chat(model=model, headers={"Heed-Debug": "1"}, **body)
    return str(headers["Heed-Adapter"])


async def test_a_candidate_is_made_ready_and_reported(up: Running, fake: FakeEngine, base: Path) -> None:
    publish(up, base, FIRST)
    await until(lambda: FIRST in ready(up))
    await until(lambda: FIRST in up.gateway.registry.engines().get("engine-0", ()))
    assert fake.adapters[FIRST] == str(up.gateway.settings.adapters_dir / FIRST)
    assert up.gateway.registry.adapter(FIRST).state == "candidate"
    assert await served_by(up) == "base"
    assert await served_by(up, f"heed:{FIRST}") == FIRST


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ({"config": {"r": 3}}, "rank 3"),
        ({"probes": ()}, "0 probes"),
        ({"of_base": "ffffffffffffffff"}, "ffffffffffffffff"),
    ],
)
async def test_an_unfit_candidate_is_rejected_and_never_gets_traffic(
    up: Running, base: Path, made: dict[str, Any], why: str
) -> None:
    publish(up, base, FIRST, **made)
    await until(lambda: up.gateway.registry.adapter(FIRST).state == "rejected")
    assert why in (up.gateway.registry.adapter(FIRST).reason or "")
    assert FIRST not in ready(up)


async def test_a_candidate_that_answers_otherwise_than_its_trainer_saw_is_rejected(
    up: Running, fake: FakeEngine, base: Path
) -> None:
    fake.log_probability[FIRST] = -0.9
    publish(up, base, FIRST)
    await until(lambda: up.gateway.registry.adapter(FIRST).state == "rejected")
    assert "nats off" in (up.gateway.registry.adapter(FIRST).reason or "")
    await until(lambda: FIRST not in fake.adapters)


async def test_an_engine_with_another_base_gets_no_adapter_and_rejects_none(
    up: Running, fake: FakeEngine, base: Path
) -> None:
    fake.log_probability["base"] = -3.0
    publish(up, base, FIRST)
    await until(lambda: FIRST in fake.loads)
    await asyncio.sleep(0.3)
    assert FIRST not in ready(up)
    assert up.gateway.registry.adapter(FIRST).state == "candidate"


async def test_a_restarted_engine_gets_its_adapters_again_and_meanwhile_base_answers(
    up: Running, fake: FakeEngine, base: Path
) -> None:
    await first_is_live(up, base)
    assert await served_by(up) == FIRST
    fake.load_status = 503
    fake.adapters.clear()
    await until(lambda: FIRST not in ready(up))
    assert await served_by(up) == "base"
    fake.load_status = 200
    await until(lambda: FIRST in ready(up))
    assert await served_by(up) == FIRST


async def test_an_adapter_the_engine_lost_between_checks_is_loaded_again_and_answers(
    up: Running, fake: FakeEngine, base: Path
) -> None:
    await first_is_live(up, base)
    fake.wait_to_load = 0.3
    fake.adapters.clear()
    assert await served_by(up) == FIRST
    assert fake.loads == [FIRST, FIRST]


async def test_an_adapter_that_is_lost_and_cannot_be_loaded_again_fails_no_request(
    up: Running, fake: FakeEngine, base: Path
) -> None:
    await first_is_live(up, base)
    fake.load_status = 503
    fake.adapters.clear()
    assert await served_by(up) == "base"


async def test_one_made_live_before_any_engine_has_it_is_not_waited_for(
    up: Running, fake: FakeEngine, base: Path
) -> None:
    fake.wait_to_load = 60.0
    publish(up, base, FIRST)
    up.gateway.registry.promote("heed", FIRST, "test")
    await until(lambda: FIRST in fake.loads)
    assert await served_by(up) == "base"
    assert FIRST not in ready(up)


async def test_a_name_is_unloaded_only_when_its_last_chat_is_over(
    up: Running, fake: FakeEngine, base: Path
) -> None:
    publish(up, base, FIRST)
    await until(lambda: FIRST in ready(up))
    fake.holds_after = 2
    body = {"model": f"heed:{FIRST}", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    async with up.http.post(f"{up.url}/v1/chat/completions", json=body) as answer:
        await answer.content.readany()
        up.gateway.registry.transition(FIRST, "rejected", "test")
        await until(lambda: FIRST not in ready(up))
        await asyncio.sleep(0.3)
        assert FIRST in fake.adapters
        fake.holds_after = None
        assert (await answer.text()).endswith("[DONE]\n\n")
    await until(lambda: FIRST not in fake.adapters)


async def test_no_more_are_loaded_than_the_engine_has_slots_for(
    up: Running, fake: FakeEngine, base: Path
) -> None:
    names = [f"a-00000{number}-{PLAIN}" for number in range(1, 6)]
    for name in names:
        fake.log_probability[name] = -0.5
        publish(up, base, name)
    await until(lambda: len(ready(up)) == 2)
    await asyncio.sleep(0.2)
    assert len(fake.adapters) == 2
    up.gateway.registry.promote("heed", names[0], "test")
    await until(lambda: names[0] in ready(up))
    assert len(fake.adapters) == 2


async def test_an_experiment_splits_and_logs_shares_and_a_rollback_loses_nothing(
    up: Running, fake: FakeEngine, base: Path
) -> None:
    publish(up, base, FIRST)
    await until(lambda: FIRST in ready(up))
    arms = (Arm(name="control", adapter=None, share=0.5), Arm(name="new", adapter=FIRST, share=0.5))
    up.gateway.registry.put_experiment(ExperimentRecord(name="e", alias="heed", arms=arms, salt="x"))
    await until(lambda: "heed" in up.gateway.table.running)
    arms_seen = set()
    for number in range(SUBJECTS):
        _, _, headers = await up.chat(user=f"u{number}", headers={"Heed-Debug": "1"})
        arms_seen.add((headers["Heed-Arm"], headers["Heed-Adapter"]))
    assert arms_seen == {("control", "base"), ("new", FIRST)}
    await until(lambda: sum(arm.exposures for arm in up.gateway.log.counts("e").values()) == SUBJECTS)
    entries = up.gateway.log.claim("test", 1000)
    assert all(entry.event.arm_shares == {"control": 0.5, "new": 0.5} for entry in entries)  # type: ignore[union-attr]
    status, report = await up.call("GET", "/v1/experiments/e/report")
    assert status == 200
    assert [arm["name"] for arm in report["arms"]] == ["control", "new"]
    assert sum(arm["exposures"] for arm in report["arms"]) == SUBJECTS
    assert report["verdicts"][0]["action"] == "wait"


async def test_after_a_rollback_no_arm_is_answered_by_what_was_left(up: Running, base: Path) -> None:
    await first_is_live(up, base)
    publish(up, base, SECOND)
    await until(lambda: SECOND in ready(up))
    up.gateway.registry.transition(SECOND, "canary", "on trial")
    arms = (Arm(name="control", adapter=FIRST, share=0.5), Arm(name="candidate", adapter=SECOND, share=0.5))
    trial = ExperimentRecord(name="e", alias="heed", arms=arms, salt="x", owner="loop")
    up.gateway.registry.put_experiment(trial)
    await until(lambda: "heed" in up.gateway.table.running)
    users = [f"u{number}" for number in range(SUBJECTS)]
    assert {await served_by(up, user=user) for user in users} == {FIRST, SECOND}
    status, alias = await up.call("POST", "/v1/rollback", {"reason": "complaints"})
    assert (status, alias["live"]) == (200, None)
    await until(lambda: up.gateway.table.aliases["heed"].live is None)
    assert {await served_by(up, user=user) for user in users} == {"base"}
    _, ended = await up.call("GET", "/v1/experiments/e")
    assert (ended["status"], ended["history"][-1]["reason"]) == ("stopped", "rolled back: complaints")
    status, refused = await up.call("PATCH", "/v1/experiments/e", {"status": "running"})
    assert (status, "rejected" in refused["error"]["message"]) == (409, True)
