"""What a real engine answers after swaps, after its own death, and when files of adapters are deleted."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import orjson
import pytest
import redis

from serve import engine_client
from serve.engine_client import EngineClient
from serve.errors import EngineUnreachable
from serve.pulse import Counts
from tests.adapters import random_adapter
from tests.servers import MortalEngine
from tests.unit.serve.running import Running, running, until

pytestmark = pytest.mark.engine
SLOTS = 4
DAYS = " ".join(f"I was at your shop on day {day} and I liked the coffee." for day in range(14))
PROMPT = (
    f"{DAYS} When do you open?"  # longer than the engine's block of 128 tokens, so that its cache is used
)
GREEDY = {"temperature": 0, "max_tokens": 32}
LONGEST_RESTART = 5.0  # seconds from healthy to all adapters ready


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalEngine]:
    flags = ("--max-cpu-loras", str(SLOTS), "--max-loras", "2")
    made = MortalEngine(tmp_path_factory.mktemp("mortal"), flags)
    made.wait()
    yield made
    made.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Adapters that answer each in its own way."""
    folder = tmp_path_factory.mktemp("made")
    return [random_adapter(folder / str(seed), seed, scale=0.12, rank=16) for seed in range(6)]


@pytest.fixture
async def up(
    tmp_path: Path, store: redis.Redis, valkey_url: str, engine: MortalEngine, made: list[Path]
) -> AsyncIterator[Running]:
    async with running(
        tmp_path / "data",
        engines=[engine.url],
        redis_url=valkey_url,
        import_dirs=str(made[0].parent),
        adapter_slots=SLOTS,
    ) as gateway:
        await until(lambda: gateway.gateway.pool.any_up, 120)
        yield gateway


async def take_in(up: Running, folder: Path) -> str:
    """Import a folder; its id once it is ready."""
    status, body = await up.call("POST", "/v1/adapters", {"path": str(folder)})
    assert status == 201, body
    await until(lambda: body["id"] in up.gateway.pool.engines[0].ready, 180)
    return str(body["id"])


async def told(up: Running, model: str = "heed") -> tuple[str, str]:
    """Which adapter answered, and what."""
    messages = [{"role": "user", "content": PROMPT}]
    status, body, headers = await up.chat(
        model=model, messages=messages, headers={"Heed-Debug": "1"}, **GREEDY
    )
    assert status == 200, body
    return headers["Heed-Adapter"], body["choices"][0]["message"]["content"]


async def swapped_to(up: Running, adapter: str) -> str:
    """Promote it; the text of the first reply by it, which the second has to repeat out of the cache."""
    status, alias = await up.call("POST", f"/v1/adapters/{adapter}/promote")
    assert (status, alias.get("live")) == (200, adapter), alias
    await until(lambda: up.gateway.table.aliases["heed"].live == adapter)
    first, again = await told(up), await told(up)
    assert first == again
    assert first[0] == adapter
    return first[1]


async def reloaded_in_place(url: str, folder: Path, old: Path, new: Path) -> tuple[str, str]:
    """What the same name answers on the engine before and after its bytes were replaced, as others do it."""
    shutil.copytree(old, folder)
    asked = {"model": "naive", "messages": [{"role": "user", "content": PROMPT}], **GREEDY}
    texts = []
    async with aiohttp.ClientSession() as session:
        for bytes_of, in_place in ((old, False), (new, True)):
            shutil.copy(bytes_of / "adapter_model.safetensors", folder)
            load = {"lora_name": "naive", "lora_path": str(folder), "load_inplace": in_place}
            async with session.post(f"{url}/v1/load_lora_adapter", json=load) as answer:
                assert answer.status == 200, await answer.text()
            async with session.post(f"{url}/v1/chat/completions", json=asked) as answer:
                texts.append((await answer.json())["choices"][0]["message"]["content"])
    return texts[0], texts[1]


async def brought_back(
    up: Running, engine: MortalEngine, adapters: set[str]
) -> tuple[float, tuple[str, str]]:
    """Start the engine again. Seconds from healthy to all adapters ready; the first reply it gives."""
    engine.start()
    first = asyncio.create_task(first_reply(up))
    await until(lambda: engine.healthy, 420)
    healthy = time.monotonic()
    await until(lambda: adapters <= up.gateway.pool.engines[0].ready, 180)
    return time.monotonic() - healthy, await first


async def first_reply(up: Running) -> tuple[str, str]:
    """The first that is one; until then the gateway says that it is warming up."""
    messages = [{"role": "user", "content": PROMPT}]
    while True:
        status, body, headers = await up.chat(messages=messages, headers={"Heed-Debug": "1"}, **GREEDY)
        if status == 200:
            return headers["Heed-Adapter"], body["choices"][0]["message"]["content"]
        assert status in {502, 503}, body
        await asyncio.sleep(0.02)


async def test_replies_after_swaps_are_those_of_a_cold_engine_and_a_restart_loses_no_adapter(
    up: Running, engine: MortalEngine, made: list[Path], tmp_path: Path
) -> None:
    ids = [await take_in(up, folder) for folder in made[:2]]
    warm = [(adapter, await swapped_to(up, adapter)) for adapter in [*ids, *ids, *ids]]
    before, in_place = await reloaded_in_place(engine.url, tmp_path / "naive", made[0], made[1])
    assert before == dict(warm)[ids[0]]

    engine.kill()
    await until(lambda: not up.gateway.pool.any_up)
    seconds, first = await brought_back(up, engine, set(ids))
    assert seconds < LONGEST_RESTART
    assert first[0] == ids[1]

    cold = dict([first, await told(up, f"heed:{ids[0]}")])  # nothing of either is in the new engine's cache
    assert len(set(cold.values())) == 2
    assert {(adapter, text) for adapter, text in warm} == set(cold.items())
    assert in_place not in cold.values()


async def last_counts(client: EngineClient) -> Counts:
    """Once what was on its way has come: they have stood for a second."""
    counts, since = await client.counts(), time.monotonic()
    async with asyncio.timeout(60):
        while time.monotonic() - since < 1.0:
            await asyncio.sleep(0.1)
            if (told := await client.counts()) != counts:
                counts, since = told, time.monotonic()
    return counts


async def test_a_core_that_hangs_is_known_by_its_counts_and_not_by_its_health(
    engine: MortalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.revive()  # the test after this one kills it
    messages = [{"role": "user", "content": "Hi"}]
    endless = {"model": "base", "messages": messages, "stream": True, "max_tokens": 900}
    body = orjson.dumps({**endless, "logit_bias": {"2": -100}})  # 2 ends a reply of the starter model
    async with aiohttp.ClientSession() as session:
        client = EngineClient(engine.url, "", session, connect_seconds=2.0, silence_seconds=600.0)
        exchange = await client.open_chat(body, "endless", lambda _: None)
        began = await client.counts()
        exchange.stream(lambda _: None, lambda: None)
        while await client.counts() == began:  # its work moves them
            assert not exchange.over
            await asyncio.sleep(0.02)
        engine.hang()
        try:
            still = await last_counts(client)
            assert len(still) >= 5
            await asyncio.sleep(0.5)
            assert await client.counts() == still
            assert client.silence() > 0
            await client.healthy()
            monkeypatch.setattr(engine_client, "CONTROL", aiohttp.ClientTimeout(total=0.5))
            with pytest.raises(EngineUnreachable):
                await client.answers("base")
        finally:
            monkeypatch.undo()
            engine.go_on()
            exchange.close()
        async with asyncio.timeout(120):  # a busy machine
            while True:
                with contextlib.suppress(EngineUnreachable):
                    await client.answers("base")
                    break


async def test_the_engine_lives_though_more_adapters_are_asked_for_than_it_holds_and_their_files_go(
    up: Running, engine: MortalEngine, made: list[Path]
) -> None:
    ids = [await take_in(up, folder) for folder in made]
    for adapter in itertools.chain(ids, reversed(ids)):
        assert (await told(up, f"heed:{adapter}"))[0] == adapter
    adapters = up.gateway.settings.adapters_dir
    for (
        adapter
    ) in ids:  # those it lists and those it does not, in whatever order it has dropped them from memory
        shutil.rmtree(adapters / adapter)
        status, body, _ = await up.chat(model=f"heed:{adapter}", max_tokens=4)
        assert status == 200 or body["error"]["code"] in {"adapter_not_ready", "model_not_found"}, body
    await until(lambda: not up.gateway.pool.engines[0].loaded.keys() & set(ids), 120)
    status, _, headers = await up.chat(max_tokens=4, headers={"Heed-Debug": "1"})
    assert (status, headers["Heed-Adapter"]) == (200, "base")
    assert engine.alive

    await naively(engine.url, made)
    await until(lambda: not engine.healthy, 180)  # so the same, done without a gateway, does kill it


async def naively(url: str, made: list[Path]) -> None:
    """Load more than the engine holds, delete the files of the first, and ask for it."""
    async with aiohttp.ClientSession() as session:
        for number, folder in enumerate(made):
            load = {"lora_name": f"naive-{number}", "lora_path": str(folder)}
            async with session.post(f"{url}/v1/load_lora_adapter", json=load) as answer:
                assert answer.status == 200, await answer.text()
        shutil.rmtree(made[0])
        asked = {"model": "naive-0", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        with contextlib.suppress(
            aiohttp.ClientConnectionError
        ):  # its front end may be gone before it says so
            async with session.post(f"{url}/v1/chat/completions", json=asked) as answer:
                assert answer.status == 500
