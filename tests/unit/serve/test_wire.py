"""Heads without an end, requests that never become whole, and what is no HTTP, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from serve.wire import MAX_HEAD, BoundedProtocol
from tests.unit.serve.running import until

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body's length; on /slow after a while."""
    body = await Request(scope, receive).body()
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    await PlainTextResponse(str(len(body)))(scope, receive, send)


@asynccontextmanager
async def listening(seconds: float = 60.0) -> AsyncIterator[int]:
    """The port of a server with that bound on arrival."""

    class Impatient(BoundedProtocol):
        arrival_seconds = seconds

    config = uvicorn.Config(echo, port=0, lifespan="off", http=Impatient, log_level="critical")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def said(port: int, *pieces: bytes) -> bytes:
    """All that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_a_head_without_an_end_is_refused() -> None:
    async with listening() as port:
        answer = await said(port, HEAD + b"X: ", *[b"a" * 32_000] * 4)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert orjson.loads(body)["error"]["code"] == "headers_too_large"


async def test_a_large_body_is_no_large_head() -> None:
    large = MAX_HEAD * 4
    head = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % large
    async with listening() as port:
        answer = await said(port, head, *[b"a" * MAX_HEAD] * 4)
    assert answer.endswith(b"\r\n\r\n%d" % large)


async def test_each_request_of_a_connection_has_a_head_of_its_own() -> None:
    one = HEAD + b"X: " + b"a" * (MAX_HEAD // 2) + b"\r\nContent-Length: 1\r\n\r\na"
    last = HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\naa"
    async with listening() as port:
        answer = await said(port, *[one] * 5, last)
    assert answer.count(b"HTTP/1.1 200 OK") == 6


@pytest.mark.parametrize(
    "piece", [b"\x16\x03\x01\x00", b"nonsense\r\n\r\n", HEAD + b"Content-Length: -1\r\n\r\n"]
)
async def test_what_is_no_http_is_refused_in_the_contracts_shape(piece: bytes) -> None:
    async with listening() as port:
        answer = await said(port, piece)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert orjson.loads(body)["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize("pieces", [[], [b"PO"], [HEAD], [HEAD + b"Content-Length: 5\r\n\r\n", b"ab"]])
async def test_what_never_becomes_a_whole_request_is_not_waited_for(pieces: list[bytes]) -> None:
    async with listening(seconds=0.2) as port:
        assert await said(port, *pieces) == b""


async def test_a_reply_that_takes_long_is_waited_for() -> None:
    slow = b"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\na"
    async with listening(seconds=0.2) as port:
        answer = await said(port, slow, HEAD)  # the second never becomes whole
    assert answer.endswith(b"\r\n\r\n1")
