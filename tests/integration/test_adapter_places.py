"""More adapters than places: each is brought when it is asked for, and none that is in use makes room."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis

from feedback.protocols import Arm, ExperimentRecord
from feedback.registry import RedisRegistry
from serve import adapters, importing
from tests.unit.serve.fake_engine import FakeEngine, fake_engine
from tests.unit.serve.folders import PLAIN, adapter_folder, record_of, tiny_base
from tests.unit.serve.running import Running, running, until

SLOTS, PLACES = 4, 3
NAMES = [f"a-{number:06d}-{PLAIN}" for number in range(1, 9)]


class Counting(FakeEngine):
    """Knows the most adapters it ever listed."""

    most = 0

    async def load(self, request: Any) -> Any:
        answer = await super().load(request)
        self.most = max(self.most, len(self.adapters))
        return answer


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Counting]:
    monkeypatch.setattr("tests.unit.serve.fake_engine.FakeEngine", Counting)
    async with fake_engine() as engine:
        assert isinstance(engine, Counting)
        engine.log_probability = dict.fromkeys(NAMES, -0.5)
        yield engine
        assert engine.most <= SLOTS


@pytest.fixture
def base(tmp_path: Path, store: redis.Redis) -> Path:
    """A base, and eight published adapters of it."""
    made, registry = tiny_base(tmp_path / "base"), RedisRegistry(store)
    for number, name in enumerate(NAMES):
        adapter_folder(tmp_path / "data" / "adapters", name, made)
        registry.add_adapter(record_of(name, created=1.0 + number))
    return made


@pytest.fixture
def settings(tmp_path: Path, valkey_url: str, fake: Counting, base: Path) -> dict[str, Any]:
    return {
        "data_dir": tmp_path / "data",
        "engines": [fake.url],
        "redis_url": valkey_url,
        "model": str(base),
        "adapter_slots": SLOTS,
        "adapter_wait_seconds": 120,  # on a busy machine
    }


@pytest.fixture
async def up(settings: dict[str, Any]) -> AsyncIterator[Running]:
    async with running(**settings) as gateway:
        await until(lambda: len(gateway.gateway.pool.engines[0].ready) == PLACES)
        yield gateway


async def answered(up: Running, adapter: str) -> tuple[int, str]:
    status, body, headers = await up.chat(model=f"heed:{adapter}", headers={"Heed-Debug": "1"})
    return status, headers.get("Heed-Adapter", "") or body["error"]["code"]


async def test_every_adapter_answers_when_it_is_asked_for_whatever_the_number_of_places(
    up: Running, fake: Counting
) -> None:
    took = []
    for name in [*NAMES, *NAMES[::-1]]:
        began = time.monotonic()
        assert await answered(up, name) == (200, name)
        took.append(time.monotonic() - began)
    assert statistics.median(took) < 1.0
    assert fake.most == PLACES


async def test_many_asked_for_at_once_take_turns(up: Running, fake: Counting) -> None:
    told = await asyncio.gather(*(answered(up, name) for name in NAMES for _ in range(3)))
    assert told == [(200, name) for name in NAMES for _ in range(3)]


async def test_the_least_recently_used_makes_room(up: Running, fake: Counting) -> None:
    for name in NAMES[:2]:
        await answered(up, name)
    assert set(fake.adapters) == {NAMES[0], NAMES[1], NAMES[7]}
    await answered(up, NAMES[2])
    assert set(fake.adapters) == {NAMES[1], NAMES[2], NAMES[7]}


async def test_what_training_loads_for_its_rollouts_has_a_place_and_keeps_none_from_what_is_needed(
    up: Running, fake: Counting
) -> None:
    fake.adapters["rollout-1"] = "/data/adapters/.rollout-1"
    for name in (NAMES[0], NAMES[1]):
        assert await answered(up, name) == (200, name)
        assert "rollout-1" in fake.adapters
        assert len(fake.adapters) == PLACES
    loads = len(fake.loads)
    await asyncio.sleep(1.0)
    assert len(fake.loads) == loads  # what is wanted besides is not fought for
    del fake.adapters["rollout-1"]
    await until(lambda: len(up.gateway.pool.engines[0].ready) == PLACES)


async def test_what_streams_is_not_unloaded_and_who_asks_then_is_told_to_come_again(
    up: Running, fake: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.holds_after = 2
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
    streams = []
    for name in sorted(fake.adapters):
        asked = up.http.post(f"{up.url}/v1/chat/completions", json={**body, "model": f"heed:{name}"})
        streams.append(await asked)
        await streams[-1].content.readany()
    before = set(fake.adapters)
    with monkeypatch.context() as hasty:
        hasty.setattr(up.gateway.keeper, "_settings", waiting_at_most(up, 0.5))
        status, told, headers = await up.chat(model=f"heed:{NAMES[0]}")
    assert (status, told["error"]["code"]) == (503, "adapter_not_ready")
    assert int(headers["Retry-After"]) >= 1
    assert set(fake.adapters) == before
    fake.holds_after = None
    for stream in streams:
        assert (await stream.text()).endswith("[DONE]\n\n")
    assert await answered(up, NAMES[0]) == (200, NAMES[0])


async def test_an_experiment_of_more_arms_than_places_shows_each_arm_to_its_subjects(
    up: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "ARM_WAIT_SECONDS", 120.0)
    arms = tuple(Arm(name=f"arm-{name[2:8]}", adapter=name, share=1 / len(NAMES)) for name in NAMES)
    record = ExperimentRecord(name="e", alias="heed", arms=arms, salt="x")
    up.gateway.registry.put_experiment(record)
    await until(lambda: "heed" in up.gateway.table.running)
    shown = set()
    for number in range(40):
        _, _, headers = await up.chat(user=f"u{number}", headers={"Heed-Debug": "1"})
        assert headers["Heed-Arm"] == f"arm-{headers['Heed-Adapter'][2:8]}"
        shown.add(headers["Heed-Adapter"])
    assert len(shown) > PLACES


async def test_two_gateways_that_share_an_engine_do_not_fight_over_its_places(
    settings: dict[str, Any], fake: Counting
) -> None:
    async with running(**settings) as one, running(**settings) as other:
        for up in (one, other):
            await until(lambda up=up: len(up.gateway.pool.engines[0].ready) == PLACES)
        for name in NAMES:
            told = await asyncio.gather(answered(one, name), answered(other, name))
            assert told == [(200, name)] * 2
        for up in (one, other):
            await until(lambda up=up: len(up.gateway.pool.engines[0].ready) == PLACES)
        loads = len(fake.loads)
        await asyncio.sleep(2.5)
        assert len(fake.loads) == loads


async def test_without_the_store_nothing_is_unloaded_to_make_room(
    up: Running, fake: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    uses = up.gateway.keeper.slots._uses

    async def away() -> None:
        uses.shared = False

    monkeypatch.setattr(uses, "share", away)
    monkeypatch.setattr(up.gateway.keeper, "_settings", waiting_at_most(up, 0.5))
    before = set(fake.adapters)
    assert (await answered(up, NAMES[0]))[0] == 503
    assert set(fake.adapters) == before


def waiting_at_most(up: Running, seconds: float) -> Any:
    return up.gateway.settings.model_copy(update={"adapter_wait_seconds": seconds})


async def test_a_rejected_or_deleted_adapter_is_not_found_and_the_answer_says_why(
    up: Running, fake: Counting
) -> None:
    registry, root = up.gateway.registry, up.gateway.settings.adapters_dir
    registry.transition(NAMES[0], "rejected", "it was rude")
    registry.transition(NAMES[1], "retired", "old")
    await until(lambda: up.gateway.table.adapters[NAMES[1]].state == "retired")
    shutil.rmtree(root / NAMES[1])
    loads = list(fake.loads)
    for name, why in ((NAMES[0], "it was rude"), (NAMES[1], "files are deleted")):
        status, body, _ = await up.chat(model=f"heed:{name}")
        assert (status, body["error"]["code"]) == (404, "model_not_found")
        assert why in body["error"]["message"]
    status, body = await up.call("POST", f"/v1/adapters/{NAMES[1]}/promote")
    assert (status, body["error"]["code"]) == (409, "conflict")
    assert fake.loads == loads


async def test_files_that_change_while_an_engine_loads_them_get_no_traffic(
    up: Running, fake: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = up.gateway.settings.adapters_dir / NAMES[0] / "adapter_model.safetensors"
    real = up.gateway.pool.engines[0].client.load

    async def load(adapter: str, folder: str) -> None:
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(bytes(data))
        await real(adapter, folder)

    monkeypatch.setattr(up.gateway.pool.engines[0].client, "load", load)
    status, body, _ = await up.chat(model=f"heed:{NAMES[0]}")
    assert status == 404
    assert "changed while an engine loaded them" in body["error"]["message"]
    assert NAMES[0] not in fake.adapters
    await until(lambda: up.gateway.registry.adapter(NAMES[0]).state == "rejected")


async def test_files_that_change_later_take_the_adapter_out_of_service_and_out_of_the_engine(
    up: Running, fake: Counting
) -> None:
    name = NAMES[-1]
    file = up.gateway.settings.adapters_dir / name / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "r": 3}))
    await until(lambda: up.gateway.registry.adapter(name).state == "rejected")
    assert "sha256" in (up.gateway.registry.adapter(name).reason or "")
    assert name not in fake.adapters
    assert (await up.chat())[0] == 200


async def test_a_folder_that_vanishes_takes_its_name_off_the_engines_at_once(
    up: Running, fake: Counting
) -> None:
    assert NAMES[-1] in fake.adapters
    shutil.rmtree(up.gateway.settings.adapters_dir / NAMES[-1])
    await until(lambda: NAMES[-1] not in fake.adapters)
    assert NAMES[-1] not in up.gateway.pool.engines[0].ready


async def test_retired_adapters_leave_the_engines_and_then_the_disk(
    up: Running, fake: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, root = NAMES[-1], up.gateway.settings.adapters_dir
    monkeypatch.setattr("serve.adapter_files.ASIDE_SECONDS", 0.5)
    monkeypatch.setattr(adapters, "SWEEP_SECONDS", 0.1)
    kept = up.gateway.settings.model_copy(update={"adapter_keep_seconds": 0.2})
    monkeypatch.setattr(up.gateway.keeper, "_settings", kept)
    listed: list[bool] = []

    async def watch() -> None:
        while (root / name).exists():
            listed.append(name in fake.adapters)
            await asyncio.sleep(0.01)
        listed.append(name in fake.adapters)

    watching = asyncio.create_task(watch())
    up.gateway.registry.transition(name, "retired", "old")
    await until(lambda: not (root / name).exists())
    await watching
    assert listed[0]
    assert not listed[-1]
    await until(lambda: list(root.glob(".gone-*")) == [])
    assert {folder.name for folder in root.iterdir()} == set(NAMES[:-1])


async def test_imports_take_turns_for_the_places_too(
    settings: dict[str, Any], fake: Counting, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = itertools.count(101)

    def named(_: int, __: str) -> str:
        name = f"a-{next(numbers):06d}-{PLAIN}"
        fake.log_probability[name] = -0.5
        return name

    monkeypatch.setattr(importing, "adapter_id", named)
    folders = [adapter_folder(tmp_path / "made", f"{number}", base) for number in range(6)]
    for folder in folders:
        (folder / "manifest.json").unlink()
    async with running(**settings, import_dirs=str(tmp_path / "made")) as up:
        await until(lambda: len(up.gateway.pool.engines[0].ready) == PLACES)
        paths = [{"path": str(folder)} for folder in folders]
        told = await asyncio.gather(*(up.call("POST", "/v1/adapters", path) for path in paths))
        taken = [body["id"] for status, body in told if status == 201]
        assert {status for status, _ in told} <= {201, 503}
        assert taken
        for name in taken:
            assert await answered(up, name) == (200, name)
        assert len(up.gateway.registry.adapters()) == len(NAMES) + len(taken)
