"""Names with one address, with several, and with none; engines that join and leave with them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from serve.discovery import Discovery, addresses_of
from serve.engine_client import EngineClient
from serve.engines import BASE, Engine, Pool
from serve.metrics import Metrics
from tests.unit.serve.running import until

URL = "http://engines.internal:8000"
ONE, TWO, THREE = "127.0.0.1", "127.0.0.2", "127.0.0.3"


class Names:
    """A resolver whose answers the test decides, and the pool that follows it."""

    def __init__(self, session: aiohttp.ClientSession, url: str = URL) -> None:
        self.addresses: dict[str, list[str]] = {}
        self.pool = Pool([], Metrics(), "base")
        self._session = session
        self.discovery = Discovery(self.pool, {"engine-0": url}, self.make, self.resolve)
        self.pool.add(self.make("engine-0", url, None))

    async def resolve(self, host: str) -> list[str]:
        return self.addresses.get(host, [])

    def make(self, name: str, url: str, address: str | None) -> Engine:
        client = EngineClient(url, "", self._session, connect_seconds=1, silence_seconds=60, address=address)
        return Engine(name, client)

    async def say(self, *addresses: str) -> list[str]:
        """The names of the engines in the pool once the name has these addresses."""
        self.addresses["engines.internal"] = list(addresses)
        await self.discovery.refresh()
        return [engine.name for engine in self.pool.engines]

    def engine(self, name: str) -> Engine:
        return next(one for one in self.pool.engines if one.name == name)

    def metric(self, name: str) -> float | None:
        registry = self.pool._metrics.registry
        return registry.get_sample_value("heed_engine_up", {"engine": name})


@pytest.fixture
async def names() -> AsyncIterator[Names]:
    async with aiohttp.ClientSession() as session:
        yield Names(session)


async def test_a_name_with_one_address_stays_one_engine_under_its_plain_name(names: Names) -> None:
    before = names.engine("engine-0")
    assert await names.say("10.0.0.1") == ["engine-0"]
    assert await names.say("10.0.0.2") == ["engine-0"]  # looked up anew for each connection
    assert names.engine("engine-0") is before


async def test_a_name_with_several_addresses_is_as_many_engines(names: Names) -> None:
    assert await names.say("10.0.0.1", "10.0.0.2") == ["engine-0@10.0.0.1", "engine-0@10.0.0.2"]
    assert names.metric("engine-0") is None


async def test_addresses_join_and_leave_and_the_others_stay_what_they_were(names: Names) -> None:
    await names.say("10.0.0.1", "10.0.0.2")
    kept = names.engine("engine-0@10.0.0.2")
    kept.up = True
    assert await names.say("10.0.0.2", "10.0.0.3") == ["engine-0@10.0.0.2", "engine-0@10.0.0.3"]
    assert names.engine("engine-0@10.0.0.2") is kept
    assert kept.open


async def test_an_address_that_is_gone_drains_and_leaves_with_its_last_chat(names: Names) -> None:
    await names.say("10.0.0.1", "10.0.0.2")
    for engine in names.pool.engines:
        engine.up = True
    gone = names.engine("engine-0@10.0.0.1")
    release, another = gone.hold(BASE), gone.hold(BASE)
    await names.say("10.0.0.2", "10.0.0.3")
    assert gone in names.pool.engines
    assert not gone.open
    release()
    await names.discovery.refresh()
    assert gone in names.pool.engines
    another()
    await names.discovery.refresh()
    assert gone not in names.pool.engines
    assert names.metric(gone.name) is None


async def test_an_address_that_comes_back_before_its_last_chat_ended_is_used_again(names: Names) -> None:
    await names.say("10.0.0.1", "10.0.0.2")
    there = names.engine("engine-0@10.0.0.1")
    there.up = True
    release = there.hold(BASE)
    await names.say("10.0.0.2", "10.0.0.3")
    assert not there.open
    await names.say("10.0.0.1", "10.0.0.2")
    assert there.open
    release()
    await names.discovery.refresh()
    assert there in names.pool.engines


async def test_a_look_up_that_fails_changes_nothing(names: Names) -> None:
    before = await names.say("10.0.0.1", "10.0.0.2")
    assert await names.say() == before
    assert all(not engine.leaving for engine in names.pool.engines)


async def test_from_several_addresses_back_to_one_is_the_plain_name_again(names: Names) -> None:
    await names.say("10.0.0.1", "10.0.0.2")
    assert await names.say("10.0.0.2") == ["engine-0"]


async def test_names_that_begin_alike_are_not_mixed_up() -> None:
    async with aiohttp.ClientSession() as session:
        names = Names(session)
        urls = {"engine-1": "http://one.internal:1", "engine-10": "http://ten.internal:1"}
        names.discovery = Discovery(names.pool, urls, names.make, names.resolve)
        names.addresses = {"one.internal": ["10.0.0.1"], "ten.internal": ["10.0.1.1", "10.0.1.2"]}
        await names.discovery.refresh()
        names.addresses["one.internal"] = ["10.0.0.1", "10.0.0.2"]
        await names.discovery.refresh()
        assert {one.name for one in names.pool.engines} == {
            "engine-0", "engine-1@10.0.0.1", "engine-1@10.0.0.2", "engine-10@10.0.1.1", "engine-10@10.0.1.2",
        }  # fmt: skip


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "::1", "2001:db8::1"])
async def test_an_address_is_not_a_name(host: str) -> None:
    assert await addresses_of(host) == []


async def test_localhost_is_one_address_though_both_families_have_one() -> None:
    assert len(await addresses_of("localhost")) == 1


Found = tuple[int, int, int, str, tuple[Any, ...]]


def found(*addresses: str) -> list[Found]:
    return [
        (
            socket.AF_INET6 if ":" in one else socket.AF_INET,
            socket.SOCK_STREAM,
            6,
            "",
            (one, 0, 0, 0) if ":" in one else (one, 0),
        )
        for one in addresses
    ]


@pytest.mark.parametrize(
    ("looked_up", "expected"),
    [
        (found("10.0.0.2", "10.0.0.1", "10.0.0.2"), ["10.0.0.1", "10.0.0.2"]),
        (found("2001:db8::1", "10.0.0.1"), ["10.0.0.1"]),
        (found("2001:db8::1", "2001:db8::2", "10.0.0.1", "10.0.0.2"), ["10.0.0.1", "10.0.0.2"]),
        (found("2001:db8::2", "2001:db8::1"), ["2001:db8::1", "2001:db8::2"]),
        (OSError("Temporary failure in name resolution"), []),
    ],
)
async def test_addresses_are_of_one_family_and_sorted(
    monkeypatch: pytest.MonkeyPatch, looked_up: list[Found] | OSError, expected: list[str]
) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[Found]:
        if isinstance(looked_up, OSError):
            raise looked_up
        return looked_up

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    assert await addresses_of("engines.internal") == expected


@asynccontextmanager
async def servers(*hosts: str) -> AsyncIterator[tuple[int, dict[str, list[str]]]]:
    """An engine on each address, all on one port; and by address, the Host headers that it saw."""
    seen: dict[str, list[str]] = {host: [] for host in hosts}
    port = 0
    async with AsyncExitStack() as held:
        for host in hosts:
            app = web.Application()

            async def answer(request: web.Request, host: str = host) -> web.Response:
                seen[host].append(request.headers["Host"])
                if request.path.endswith("/v1/models"):
                    return web.json_response({"data": [{"id": BASE, "at": host}]})
                return web.Response(text=host)

            app.router.add_route("*", "/{path:.*}", answer)
            runner = web.AppRunner(app)
            await runner.setup()
            held.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, host, port)
            await site.start()
            port = runner.addresses[0][1]
        yield port, seen


@pytest.mark.parametrize("path", ["", "/engine"])
async def test_each_engine_of_a_name_is_asked_at_its_address_and_by_its_name(path: str) -> None:
    async with servers(ONE, TWO, THREE) as (port, seen), aiohttp.ClientSession() as session:
        names = Names(session, f"http://engines.internal:{port}{path}")
        assert len(await names.say(TWO, THREE)) == 2
        await names.pool.check_all()
        for address in (TWO, THREE):
            engine = names.engine(f"engine-0@{address}")
            assert engine.up
            assert engine.loaded[BASE]["at"] == address
            exchange = await engine.client.open_chat(b"{}", "x", lambda _: None)
            assert await exchange.body() == address.encode()
            engine.client.close()
        assert not seen[ONE]
        assert {*seen[TWO], *seen[THREE]} == {f"engines.internal:{port}"}


async def test_the_watch_follows_the_name() -> None:
    async with servers(TWO, THREE) as (port, _), aiohttp.ClientSession() as session:
        names = Names(session, f"http://engines.internal:{port}")
        names.addresses["engines.internal"] = [TWO, THREE]
        watching = [
            asyncio.ensure_future(names.discovery.watch(0.01)),
            asyncio.ensure_future(names.pool.watch(0.01)),
        ]
        try:
            await until(lambda: [one.up for one in names.pool.engines] == [True, True])
            names.addresses["engines.internal"] = [TWO, "127.0.0.4"]
            await until(lambda: {one.name for one in names.pool.engines if one.up} == {f"engine-0@{TWO}"})
            assert {one.name for one in names.pool.engines} == {f"engine-0@{TWO}", "engine-0@127.0.0.4"}
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)


@pytest.mark.parametrize(
    ("url", "address", "asked"),
    [
        ("http://engines.internal:8000", None, "http://engines.internal:8000"),
        ("http://engines.internal:8000/a", "10.0.0.1", "http://10.0.0.1:8000/a"),
        ("http://engines.internal", "10.0.0.1", "http://10.0.0.1"),
        ("https://engines.internal/a", "2001:db8::1", "https://[2001:db8::1]/a"),
    ],
)
async def test_an_address_takes_the_place_of_the_name(url: str, address: str | None, asked: str) -> None:
    async with aiohttp.ClientSession() as session:
        client = EngineClient(url, "", session, connect_seconds=1, silence_seconds=1, address=address)
        assert client._at == asked
