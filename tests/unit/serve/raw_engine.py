"""A server on a real port whose every byte the test decides."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass
class Talk:
    """One connection, as the server sees it."""

    number: int  # from 0, in the order in which they were opened
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    over: bool = False

    async def asked(self) -> bytes:
        """The next request, which has no body; raises IncompleteReadError when the client has left."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    def reset(self) -> None:
        self.writer.transport.abort()


@dataclass
class RawEngine:
    url: str = ""
    talks: list[Talk] = field(default_factory=list)


@asynccontextmanager
async def raw_engine(script: Callable[[Talk], Awaitable[None]]) -> AsyncIterator[RawEngine]:
    """Runs ``script`` for each connection, which is closed when it returns."""
    made = RawEngine()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = Talk(len(made.talks), reader, writer)
        made.talks.append(talk)
        try:
            await script(talk)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            talk.over = True
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
