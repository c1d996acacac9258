"""Heads without an end, requests that never become whole, and what is no HTTP, over a real socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from serve.middleware.headers import PLAIN
from serve.wire import MAX_HEAD, BoundedProtocol
from tests.unit.serve.running import until

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body's length; on /slow after a while, on /much with 64 MiB, on /stream in two pieces."""
    body = await Request(scope, receive).body()
    if scope["path"] in PIECES:
        await StreamingResponse(pieces(*PIECES[scope["path"]]))(scope, receive, send)
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    await PlainTextResponse(str(len(body)))(scope, receive, send)


MUCH = 64 * 2**20
PIECES = {"/much": (b"x" * 65536, MUCH // 65536), "/stream": (b"two", 2)}


async def pieces(piece: bytes, times: int) -> AsyncIterator[bytes]:
    for _ in range(times):
        yield piece


@asynccontextmanager
async def listening(seconds: float = 60.0, taking: float = 60.0) -> AsyncIterator[int]:
    """The port of a server with these bounds on arriving and on taking."""

    class Impatient(BoundedProtocol):
        arrival_seconds, taking_seconds = seconds, taking

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
        return await asyncio.wait_for(reader.read(), 60)
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


@pytest.mark.parametrize("between", [b"\r\n", b"\r\n\r\n"])
async def test_empty_lines_after_an_answer_do_not_hold_the_connection(between: bytes) -> None:
    whole = HEAD + b"Content-Length: 1\r\n\r\na"
    async with listening(seconds=0.2) as port:
        answer = await said(port, whole, between)
    assert answer.endswith(b"\r\n\r\n1")


async def test_empty_lines_before_a_request_are_passed_over() -> None:
    whole = HEAD + b"Content-Length: 1\r\n\r\na"
    last = HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\naa"
    async with listening(seconds=0.5) as port:
        answer = await said(port, b"\r\n", whole, b"\r\n", last)
    assert answer.count(b"HTTP/1.1 200 OK") == 2


async def test_a_request_whose_body_waits_behind_another_does_not_end_that_ones_answer() -> None:
    slow = b"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\na"
    async with listening(seconds=0.2) as port:
        answer = await said(port, slow + HEAD + b"Content-Length: 9\r\n\r\na")
    assert answer.endswith(b"\r\n\r\n1")


async def test_a_reply_that_takes_long_is_waited_for() -> None:
    slow = b"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\na"
    async with listening(seconds=0.2) as port:
        answer = await said(port, slow, HEAD)  # the second never becomes whole
    assert answer.endswith(b"\r\n\r\n1")


async def taken(port: int, pauses: int, seconds: float, each: int) -> int:
    """How much of /much comes to a client that pauses so often and so long, and takes so much between."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=65536)
    writer.write(b"GET /much HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    got = 0
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        for _ in range(pauses):
            await asyncio.sleep(seconds)
            got += len(await reader.readexactly(each))
        while piece := await asyncio.wait_for(reader.read(2**20), 60):
            got += len(piece)
    writer.close()
    return got


async def test_a_client_that_takes_nothing_is_let_go() -> None:
    async with listening(taking=0.3) as port:
        assert await taken(port, 1, 1.0, 1) < MUCH


async def test_a_client_that_takes_slowly_gets_everything() -> None:
    async with listening(taking=4.0) as port:
        assert await taken(port, 7, 0.7, 8 * 2**20) > MUCH


async def test_what_ends_with_the_connection_has_no_chunks() -> None:
    async with listening() as port:
        old = await said(port, b"GET /stream HTTP/1.0\r\n\r\n")
        new = await said(port, b"GET /stream HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert old.endswith(b"\r\n\r\ntwotwo")
    assert b"chunked" not in old
    assert new.endswith(b"3\r\ntwo\r\n3\r\ntwo\r\n0\r\n\r\n")


async def test_junk_after_a_request_waits_for_its_answer() -> None:
    async with listening() as port:
        slow = b"POST /slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\na"
        answer = await said(port, slow, b"junk\r\n\r\n", HEAD)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"\r\n\r\n1")


async def test_a_body_that_turns_out_to_be_none_is_not_taken_for_one() -> None:
    async with listening() as port:
        answer = await said(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", b"zz\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_bytes_around_a_body_are_bounded_by_the_body() -> None:
    tiny = (
        HEAD
        + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        + b"1\r\na\r\n" * 50_000
        + b"0\r\n\r\n"
    )
    async with listening() as port:
        assert (await said(port, tiny)).endswith(b"\r\n\r\n50000")
        endless = await said(port, HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", *[b"a" * 50_000] * 4)
    assert endless.startswith(b"HTTP/1.1 431 ")


async def test_http_1_0_is_told_nothing_before_its_answer() -> None:
    ask = b"POST / HTTP/%b\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\n"
    body = b"Content-Length: 1\r\n\r\na"
    async with listening() as port:
        old = await said(port, ask % b"1.0" + body)
        new = await said(port, ask % b"1.1" + body)
    assert old.startswith(b"HTTP/1.1 200 OK\r\n")
    assert new.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_a_refusal_has_what_every_answer_has() -> None:
    async with listening() as port:
        answers = [await said(port, b"nonsense\r\n\r\n") for _ in range(2)]
    ids = set()
    for answer in answers:
        lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        headers = dict(line.split(": ", 1) for line in lines)
        assert {name: headers.get(name) for name in PLAIN} == PLAIN
        ids.add(headers["x-request-id"])
    assert len(ids) == 2
