"""Bytes past ASGI, over real sockets on both event loops: slow clients, leaving clients, pipelined requests."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from serve.direct import Direct, direct_of
from serve.wire import BoundedProtocol
from tests.unit.serve.running import until

ASK = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"
START = {"type": "http.response.start", "status": 200, "headers": []}
END = {"type": "http.response.body", "body": b""}
Handler = Callable[[Direct], Awaitable[None]]


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """The gateway runs on uvloop, other tests on asyncio's own."""
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


class Server:
    """Answers each path with its handler, between head and end; ``past``: they too go past ASGI."""

    def __init__(self, past: bool = False, **handlers: Handler) -> None:
        self.past, self.handlers = past, handlers
        self.port = 0
        self.protocols: list[BoundedProtocol] = []

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        direct = direct_of(scope)
        self.protocols.append(direct._protocol)
        handler = self.handlers[scope["path"][1:]]
        if self.past:
            direct.start(b"x-of: ours\r\n")
            await handler(direct)
            direct.finish()
        else:
            await send(START)
            await handler(direct)
            await send(END)

    async def connect(
        self, *paths: bytes, limit: int = 2**16
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client that sends these requests at once."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=limit)
        writer.write(b"".join(ASK % path for path in paths))
        return reader, writer


@asynccontextmanager
async def serving(
    *, past: bool = False, made: Server | None = None, **handlers: Handler
) -> AsyncIterator[Server]:
    made = made or Server(past, **handlers)
    config = uvicorn.Config(
        made, port=0, lifespan="off", http=BoundedProtocol, log_level="critical", loop="none"
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    made.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield made
        await until(lambda: not any(one.directs for one in made.protocols))
    finally:
        server.should_exit = True
        await task


async def body_of(reader: asyncio.StreamReader) -> bytes:
    """The chunks of one answer, joined."""
    await reader.readuntil(b"\r\n\r\n")
    out = []
    while size := int(await reader.readline(), 16):
        out.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(out)


async def test_what_is_written_arrives_in_chunks_between_head_and_end() -> None:
    async def writes(direct: Direct) -> None:
        direct.write(b"hello ")
        await asyncio.sleep(0)
        direct.write(b"world" * 10)

    async with serving(a=writes) as server:
        reader, writer = await server.connect(b"/a", b"/a")
        assert [await body_of(reader) for _ in range(2)] == [b"hello " + b"world" * 10] * 2
        writer.close()


async def test_http_1_0_gets_its_body_as_it_is() -> None:
    async def writes(direct: Direct) -> None:
        direct.write(b"hello ")
        direct.write(b"world")

    async with serving(a=writes) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /a HTTP/1.0\r\n\r\n")
        assert (await reader.read()).endswith(b"\r\n\r\nhello world")
        writer.close()


@pytest.mark.parametrize("past", [False, True])
async def test_what_an_answer_held_goes_without_the_collector(past: bool) -> None:
    """Which would hold up all streams while it looks for it."""

    async def writes(direct: Direct) -> None:
        direct.write(b"hello")

    gc.collect()
    gc.disable()
    try:
        async with serving(past=past, a=writes) as server:
            reader, writer = await server.connect(*[b"/a"] * 5)
            assert [await body_of(reader) for _ in range(5)] == [b"hello"] * 5
            await until(lambda: not any(type(one) is Direct for one in gc.get_objects()))
            writer.close()
    finally:
        gc.enable()


class Told:
    """A transport that is asked once for each write."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport, self.writes = transport, []

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self.transport.write(data)

    def close(self) -> None:
        self.transport.close()


@pytest.mark.parametrize(
    ("pieces", "writes"),
    [((), 1), ((b"whole",), 1), ((b"one", b"two"), 2), ((b"one", b"two", b"three"), 3)],
)
@pytest.mark.parametrize("marked", [True, False], ids=["the last is told", "the last is not told"])
async def test_head_and_end_go_out_with_the_pieces(
    pieces: tuple[bytes, ...], writes: int, marked: bool
) -> None:
    seen: list[Told] = []

    async def says(direct: Direct) -> None:
        seen.append(Told(direct._cycle.transport))
        direct._cycle.transport = seen[-1]  # type: ignore[assignment]
        for place, piece in enumerate(pieces, 1):
            direct.write(piece, last=marked and place == len(pieces))

    async with serving(past=True, a=says) as server:
        reader, writer = await server.connect(b"/a", b"/a")
        for _ in range(2):  # the connection is kept
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert head.endswith(b"x-of: ours\r\ntransfer-encoding: chunked\r\n\r\n")
            assert b"\r\ndate: " in head
            chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
            assert await reader.readexactly(len(chunked) + 5) == chunked + b"0\r\n\r\n"
        assert [len(one.writes) for one in seen] == [writes + (bool(pieces) and not marked)] * 2
        writer.close()


@pytest.mark.parametrize(
    "ask", [b"GET /a HTTP/1.0\r\n\r\n", ASK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") % b"/a"]
)
async def test_a_connection_that_is_not_kept_is_closed_after_the_body(ask: bytes) -> None:
    async def says(direct: Direct) -> None:
        direct.write(b"one")
        direct.write(b"two", last=True)

    async with serving(past=True, a=says) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(ask)
        head, _, body = (await asyncio.wait_for(reader.read(), 60)).partition(b"\r\n\r\n")
        assert b"connection: close" in head
        assert body == (b"onetwo" if b"1.0" in ask else b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
        writer.close()


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_a_whole_answer_is_one_write(version: bytes) -> None:
    seen: list[Told] = []

    class Answering(Server):
        async def __call__(self, scope: Scope, _: Receive, __: Send) -> None:
            direct = direct_of(scope)
            seen.append(Told(direct._cycle.transport))
            direct._cycle.transport = seen[-1]  # type: ignore[assignment]
            direct.answer(422, b"x-of: ours\r\n", b'{"told":1}')

    async with serving(made=Answering()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write((b"GET / HTTP/" + version + b"\r\nHost: localhost\r\n\r\n") * (1 + (version == b"1.1")))
        for _ in range(1 + (version == b"1.1")):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 422 Unprocessable")
            assert b"\r\nx-of: ours\r\ncontent-length: 10\r\n" in head
            assert (b"connection: close" in head) is (version == b"1.0")
            assert await reader.readexactly(10) == b'{"told":1}'
        if version == b"1.0":
            assert await reader.read() == b""
        assert [len(one.writes) for one in seen] == [1] * len(seen)
        writer.close()


async def test_nothing_is_written_after_the_end() -> None:
    async def says(direct: Direct) -> None:
        direct.write(b"one", last=True)
        direct.write(b"more")

    async with serving(past=True, a=says) as server:
        reader, writer = await server.connect(b"/a", b"/a")
        assert [await body_of(reader) for _ in range(2)] == [b"one", b"one"]
        writer.close()


async def test_a_client_that_left_before_the_head_gets_none() -> None:
    ended: list[bool] = []

    async def late(direct: Direct) -> None:
        await until(lambda: direct.gone)
        direct.start(b"")
        direct.write(b"x")
        direct.finish()
        ended.append(direct._cycle.response_complete)

    async with serving(past=True, a=late) as server:
        _, writer = await server.connect(b"/a")
        await asyncio.sleep(0.05)
        writer.close()
        await until(lambda: ended)
        assert ended == [False]  # nothing was sent, and nothing counts as answered


async def test_a_slow_client_is_slow_until_it_reads_and_then_gets_everything() -> None:
    piece = b"x" * 65536
    written = 0
    waits = 0

    async def pours(direct: Direct) -> None:
        nonlocal written, waits
        resumed = asyncio.Event()
        direct.watch(resumed=resumed.set)
        while written < 32 * 2**20:
            direct.write(piece)
            written += len(piece)
            await asyncio.sleep(0)  # uvloop writes at the end of a turn
            if direct.slow:
                waits += 1
                resumed.clear()
                await resumed.wait()
                assert not direct.slow
        direct.watch()

    async with serving(a=pours) as server:
        reader, writer = await server.connect(b"/a")
        stalled = 0
        while not waits or written != stalled:  # until the kernel's buffers are full
            stalled = written
            await asyncio.sleep(0.2)
        assert stalled < 16 * 2**20
        buffered = server.protocols[0].transport.get_write_buffer_size()
        assert buffered <= 3 * 65536
        assert len(await body_of(reader)) == 32 * 2**20
        writer.close()


@pytest.mark.parametrize("how", ["close", "reset", "half"])
async def test_a_client_that_leaves_is_noticed_at_once(how: str) -> None:
    left = asyncio.Event()
    seen: list[bool] = []

    async def waits(direct: Direct) -> None:
        direct.write(b"hello")
        direct.watch(left=left.set)
        await left.wait()
        seen.append(direct.gone)
        direct.write(b"into the void")
        direct.watch()

    async with serving(a=waits) as server:
        reader, writer = await server.connect(b"/a")
        await reader.readuntil(b"hello")
        if how == "reset":
            writer.transport.abort()
        elif how == "half":
            writer.write_eof()
        else:
            writer.close()
        await asyncio.wait_for(left.wait(), 60)
        assert seen == [True]
        writer.close()


@pytest.mark.parametrize("count", [1, 2])
async def test_what_is_being_answered_when_the_server_stops_comes_whole(count: int) -> None:
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def says(direct: Direct) -> None:
        direct.write(b"one")
        begun.set()
        await stopped.wait()
        direct.write(b"two", last=True)

    async with serving(past=True, a=says) as server:
        reader, writer = await server.connect(*[b"/a"] * count)
        await begun.wait()
        server.protocols[0].shutdown()
        stopped.set()
        assert [await body_of(reader) for _ in range(count)] == [b"onetwo"] * count
        assert await asyncio.wait_for(reader.read(), 4) == b"", "the connection is not kept"
        writer.close()


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_leaves_while_another_request_waits_is_gone(how: str) -> None:
    seen: list[bool] = []

    async def pours(direct: Direct) -> None:
        for _ in range(2000):  # watches nothing, as an export does
            if direct.gone:
                break
            direct.write(b"x" * 1000)
            await asyncio.sleep(0.01)
        seen.append(direct.gone)

    async with serving(past=True, a=pours) as server:
        reader, writer = await server.connect(b"/a", b"/a")
        await reader.readuntil(b"\r\n\r\n")
        if how == "reset":
            writer.transport.abort()
        else:
            writer.close()
        await until(lambda: seen)
        await asyncio.sleep(0.1)
    assert seen == [True], "who waited behind is not answered any more"


async def test_who_is_refused_and_takes_nothing_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Less waits for it than makes a client slow."""
    monkeypatch.setattr(BoundedProtocol, "taking_seconds", 0.3)
    full, gone = asyncio.Event(), asyncio.Event()

    async def pours(direct: Direct) -> None:
        direct.watch(left=gone.set)
        while not direct._cycle.transport.get_write_buffer_size():
            direct.write(b"x" * 32_768)
            await asyncio.sleep(0.002)
        assert not direct.slow
        full.set()
        await asyncio.wait_for(gone.wait(), 60)
        direct.watch()

    async with serving(past=True, a=pours) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(b"POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await asyncio.wait_for(full.wait(), 60)
        writer.write(b"no chunk\r\n")
        await asyncio.wait_for(gone.wait(), 60)
        writer.close()


async def test_a_slow_client_that_leaves_is_told_to_have_left_and_not_to_have_resumed() -> None:
    told: list[str] = []
    slow, over = asyncio.Event(), asyncio.Event()

    async def pours(direct: Direct) -> None:
        direct.watch(left=lambda: (told.append("left"), over.set()), resumed=lambda: told.append("resumed"))
        direct.write(b"x" * 2**24)
        await until(lambda: direct.slow)
        slow.set()
        await over.wait()
        direct.watch()

    async with serving(a=pours) as server:
        reader, writer = await server.connect(b"/a")
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.wait_for(slow.wait(), 60)
        writer.transport.abort()
        await asyncio.wait_for(over.wait(), 60)
        assert told == ["left"]


async def test_who_starts_to_watch_after_the_client_left_is_told_at_once() -> None:
    told: list[str] = []

    async def late(direct: Direct) -> None:
        await until(lambda: direct.gone)
        direct.watch(left=lambda: told.append("left"))
        assert told == ["left"]
        direct.watch()
        told.append("done")

    async with serving(a=late) as server:
        reader, writer = await server.connect(b"/a")
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await until(lambda: told == ["left", "done"])


async def test_who_watches_no_more_is_told_nothing() -> None:
    told: list[str] = []
    gone = asyncio.Event()

    async def stops(direct: Direct) -> None:
        direct.watch(left=lambda: told.append("left"), resumed=lambda: told.append("resumed"))
        direct.watch()
        await until(lambda: direct.gone)
        gone.set()

    async with serving(a=stops) as server:
        reader, writer = await server.connect(b"/a")
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await asyncio.wait_for(gone.wait(), 60)
        assert told == []


async def test_of_two_pipelined_requests_the_first_learns_that_the_client_left() -> None:
    """The connection's newest request is the second: the server itself would mark that one alone."""
    left = asyncio.Event()
    began: list[str] = []

    async def waits(direct: Direct) -> None:
        began.append("first")
        direct.watch(left=left.set)
        await asyncio.sleep(0.05)
        while not left.is_set():  # the second request stops the server from reading: writing finds out
            direct.write(b"x")
            await asyncio.sleep(0.01)
        assert direct.gone
        direct.watch()

    async def never(_: Direct) -> None:
        began.append("second")

    async with serving(a=waits, b=never) as server:
        reader, writer = await server.connect(b"/a", b"/b")
        await reader.readuntil(b"\r\n\r\n")
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
        await asyncio.wait_for(left.wait(), 60)
        await asyncio.sleep(0.05)
        assert began == ["first"]


async def test_of_two_pipelined_requests_each_has_its_own_answer() -> None:
    async def one(direct: Direct) -> None:
        await asyncio.sleep(0.05)
        direct.write(b"one")

    async def two(direct: Direct) -> None:
        direct.write(b"two")

    async with serving(a=one, b=two) as server:
        reader, writer = await server.connect(b"/a", b"/b")
        assert await body_of(reader) == b"one"
        assert await body_of(reader) == b"two"
        writer.close()


def test_under_another_server_it_says_what_to_start() -> None:
    for scope in ({"type": "http"}, {"type": "http", "extensions": None}, {"type": "http", "extensions": {}}):
        with pytest.raises(RuntimeError, match="start it with `heed up`"):
            direct_of(scope)
