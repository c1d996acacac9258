"""Clients that send or read slowly, over HTTP: what each costs is bounded."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import redis

from serve.wire import BoundedProtocol
from tests.unit.serve.fake_engine import FakeEngine, fake_engine
from tests.unit.serve.running import Running, running, until

WORDS, WORD = 4000, "x" * 16_384  # a reply of 64 MiB: more than sockets on the way can hold


class Endless(FakeEngine):
    """Writes as fast as it is read, and counts."""

    written = 0

    def words(self, model: str) -> list[str]:
        return [WORD]

    def _events(self, *told: Any) -> Any:
        first, word, *end = super()._events(*told)
        for event in (first, *itertools.repeat(word, WORDS), *end):
            self.written += len(event)
            yield event


@pytest.fixture
async def fake() -> AsyncIterator[Endless]:
    async with fake_engine(Endless()) as engine:
        assert isinstance(engine, Endless)
        yield engine


@pytest.fixture
async def up(tmp_path: Path, store: redis.Redis, valkey_url: str, fake: Endless) -> AsyncIterator[Running]:
    async with running(tmp_path, engines=[fake.url], redis_url=valkey_url) as gateway:
        yield gateway


async def opened(up: Running, *pieces: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which the pieces were sent."""
    address = urlsplit(up.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=2**16)
    for piece in pieces:
        writer.write(piece)
    await writer.drain()
    return reader, writer


def chat(**more: Any) -> bytes:
    """The request of a chat."""
    body = json.dumps({"model": "heed", "messages": [{"role": "user", "content": "hi"}], **more}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def test_who_does_not_read_stops_the_engine_and_takes_little_memory(up: Running, fake: Endless) -> None:
    import_module("feedback.statistics")  # what the gateway loads as it starts is no client's doing
    before = psutil.Process().memory_info().rss
    reader, writer = await opened(up, chat(stream=True))
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    seen = -1
    async with asyncio.timeout(120):
        while fake.written != seen:
            seen = fake.written
            await asyncio.sleep(0.5)
    assert 0 < seen < WORDS * len(WORD) / 2
    assert (
        psutil.Process().memory_info().rss - before < 48 * 2**20
    )  # gateway, engine and client are this process
    while len(await reader.read(2**16)) and fake.written == seen:
        pass
    assert fake.written > seen  # goes on as it is read
    writer.close()
    await until(lambda: fake.aborted == 1)


async def test_slow_senders_hold_nothing_up_and_are_cut_off(
    up: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = chat()
    beginnings = (b"", b"POST /v1/chat", request[:90], request[:-5])
    patient = [await opened(up, beginnings[number % 4]) for number in range(200)]
    assert (await up.call("GET", "/healthz"))[0] == 200
    assert not any(reader.at_eof() for reader, _ in patient), "it waited for those who are slow"
    for _, writer in patient:
        writer.close()
    monkeypatch.setattr(BoundedProtocol, "arrival_seconds", 1.0)
    held = [await opened(up, beginnings[number % 4]) for number in range(200)]
    began = time.monotonic()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
        """Seconds until the server has had enough of a byte now and then."""
        while not reader.at_eof() and time.monotonic() - began < 60:
            try:
                writer.write(b"X")
                await asyncio.wait_for(reader.read(1), 0.1)
            except (TimeoutError, ConnectionError):
                pass
            if reader.exception() is not None:
                break
        return time.monotonic() - began

    seconds = await asyncio.gather(*(drip(*one) for one in held))
    assert max(seconds) < 30, "a byte now and then buys no time"
    assert up.gateway.limits.places.in_flight == 0
