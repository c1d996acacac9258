"""Clients that send what they like and leave when they like, many at once: afterwards the gateway holds nothing of
theirs, has logged no fault, and answers as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
import uvloop

from serve.wire import BoundedProtocol
from tests.unit.serve.fake_engine import FakeEngine, fake_engine
from tests.unit.serve.running import Running, running, until

CLIENTS = 60  # at once
SAYS = [f"word {number} " for number in range(20)]


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """The gateway runs on uvloop, other tests on asyncio's own."""
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


@pytest.fixture
async def engines() -> AsyncIterator[list[FakeEngine]]:
    async with fake_engine() as one, fake_engine() as other:
        for engine in (one, other):
            engine.says, engine.pause = SAYS, 0.002
        yield [one, other]


@pytest.fixture
async def up(
    tmp_path: Path,
    store: redis.Redis,
    valkey_url: str,
    engines: list[FakeEngine],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Running]:
    monkeypatch.setattr(BoundedProtocol, "arrival_seconds", 1.0)
    urls = [engine.url for engine in engines]
    async with running(tmp_path, engines=urls, redis_url=valkey_url) as gateway:
        yield gateway


def post(path: str, body: object, *, version: str = "1.1", more: str = "", chunked: bool = False) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST /v1/{path} HTTP/{version}\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}"
    if chunked:
        half = len(data) // 2
        pieces = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in (data[:half], data[half:], b""))
        return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + pieces
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def requests() -> list[bytes]:
    """All kinds, good and bad."""
    chat = {"model": "heed", "messages": [{"role": "user", "content": "hi"}]}
    streamed = {**chat, "stream": True}
    vote = {"response_id": "chatcmpl-x", "rating": "up"}
    return [
        post("chat/completions", streamed),
        post("chat/completions", streamed, chunked=True),
        post("chat/completions", streamed, version="1.0"),
        post("chat/completions", streamed, more="Expect: 100-continue\r\n"),
        post("chat/completions", streamed, more="Connection: close\r\n"),
        post("chat/completions", chat),
        post("chat/completions", {**chat, "n": 2}),
        post("chat/comparisons", streamed),
        post("chat/comparisons", chat),
        post("feedback", vote),
        post("feedback", {**vote, "rating": "left"}),
        post("nothing", {}),
        post("chat/completions", {}).replace(b"Content-Length: 2", b"Content-Length: 99999999"),
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"\r\n",
        b"junk\r\n\r\n",
    ]


async def client(port: int, draw: random.Random) -> None:
    """Sends some requests, in pieces or at once, reads a little, and leaves in one of the ways there are."""
    data = b"".join(draw.choices(requests(), k=draw.randint(1, 4)))
    data = data[: draw.choice([len(data), len(data), draw.randint(1, len(data))])]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    try:
        while (
            data and not writer.is_closing()
        ):  # the gateway may have closed it: uvloop then refuses to write
            cut = draw.choice([len(data), draw.randint(1, len(data))])
            writer.write(data[:cut])
            await writer.drain()
            data = data[cut:]
            await asyncio.sleep(draw.choice([0, 0, 0.001, 0.02]))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(draw.choice([0, 0.001, 0.005, 0.02, 0.05, 0.2])):
                for _ in range(draw.randint(0, 40)):
                    await reader.read(draw.choice([1, 100, 4096]))
                    await asyncio.sleep(draw.choice([0, 0, 0.002]))
        if draw.random() < 0.3 and not writer.is_closing():
            writer.write_eof()
            await asyncio.sleep(draw.choice([0, 0.01]))
    except OSError:
        pass  # the gateway closed it first; the end of a closed connection is no ConnectionError, but ENOTCONN
    finally:
        writer.transport.abort() if draw.random() < 0.5 else writer.close()


def held(up: Running) -> dict[str, object]:
    """All that is counted while a chat lasts."""
    gateway = up.gateway
    return {
        "places": gateway.limits.places.in_flight,
        "holders": dict(gateway.limits.places._held),
        "told": gateway.metrics.in_flight._value.get(),
        "loads": [engine.load for engine in gateway.pool.engines],
        "adapters": [dict(engine.in_flight) for engine in gateway.pool.engines],
    }


def is_fault(line: logging.LogRecord) -> bool:
    """The fake engine's server has words of its own for a gateway that leaves."""
    ours = line.name.startswith("serve.") and line.levelno >= logging.ERROR
    return ours or line.name in {"asyncio", "uvicorn.error"}


NOTHING = {"places": 0, "holders": {}, "told": 0.0, "loads": [0, 0], "adapters": [{}, {}]}


async def test_nothing_is_held_of_clients_that_left(
    up: Running, engines: list[FakeEngine], caplog: pytest.LogCaptureFixture
) -> None:
    port = urlsplit(up.url).port
    assert port
    draw = random.Random(1)
    for batch in range(3):
        engines[0].error_after_chunks = 5 if batch == 1 else None  # breaks off, as when its core dies
        engines[1].break_after_chunks = 9 if batch == 2 else None
        each = [random.Random(draw.random()) for _ in range(CLIENTS)]
        await asyncio.gather(*(client(port, one) for one in each))
        await until(lambda: held(up) == NOTHING)
    engines[0].error_after_chunks = engines[1].break_after_chunks = None
    # left alone for up to a breaker's longest pause, as what fails chats is
    await until(lambda: all(engine.open for engine in up.gateway.pool.engines), seconds=60)
    status, body, _ = await up.chat()
    assert (status, body["choices"][0]["message"]["content"]) == (200, "".join(SAYS))
    assert not [line for line in caplog.records if is_fault(line)]
