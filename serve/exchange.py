"""One chat asked of an engine over a connection that is kept: the hot path's side towards the engine.

``asyncio.Protocol`` and httptools (llhttp, in C) instead of an HTTP client: what an engine sends is handed to the
reader in the same turn of the event loop in which it came, with no task woken and no queue between. The pieces
of one read, however many, are handed on as one. The reader says ``pause`` when it has enough; then the kernel's
window closes and the engine waits.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import cast

import httptools

from serve.errors import EngineUnreachable

HELD_BYTES = 64 * 1024  # what comes before anyone reads; then the engine waits
FINAL = 200  # a lower status is only news of the answer to come
Sink = Callable[[bytes], None]
Ended = Callable[[], None]


def _ignore(_: bytes) -> None:
    """For what nobody wants."""


class Exchange:
    """One request and its answer. Either pulled with ``read``, or pushed into a sink after ``stream``."""

    __slots__ = (
        "_connection", "_ended", "_future", "_held", "_held_bytes", "_sink", "_waiter", "asked", "at", "broken",
        "closed", "over", "status", "unread",
    )  # fmt: skip

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self._future = connection.future
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._sink: Sink | None = None
        self._ended: Ended | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.status = 0  # 0: the head is not here yet
        self.over = False  # the answer is whole, broken or closed
        self.broken = False  # it ended before it was whole
        self.closed = False  # by its reader, or given up
        self.unread = False  # nobody reads what may still come
        self.at = time.monotonic()  # when something came last
        self.asked = self.at  # a head is no sign of work: vLLM's front end sends it before its core is asked

    async def head(self) -> None:
        """Wait for the status. Raises EngineUnreachable."""
        while not self.status and not self.over:
            await self._wait()
        if not self.status:
            raise EngineUnreachable("the engine broke off before it answered")

    async def read(self) -> bytes:
        """What has come; empty at the end. Raises EngineUnreachable when the answer broke off."""
        while not self._held and not self.over:
            await self._wait()
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            self._held_bytes = 0
            self.resume()
            return data
        if self.broken:
            raise EngineUnreachable("the engine broke off")
        return b""

    async def body(self) -> bytes:
        """All of it. Raises EngineUnreachable."""
        parts = []
        while data := await self.read():
            parts.append(data)
        return b"".join(parts)

    def stream(self, sink: Sink, ended: Ended) -> None:
        """From now on what comes goes to ``sink`` at once, and ``ended`` is called at the end; ``broken`` says
        which one. Both may be called before this returns.
        """
        self._sink, self._ended = sink, ended
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            sink(data)
        if self._sink is not None:  # the sink may have closed this
            self.resume()
            if self.over:
                ended()

    def pause(self) -> None:
        """Stop reading from the engine."""
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        if self._connection is not None:
            self._connection.resume()

    def close(self) -> None:
        """Safe to call twice. Before the end of the answer it closes the connection, and the engine stops."""
        self._sink = self._ended = None
        self._held.clear()
        self.closed = True
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self.over = self.broken = True
            connection.abandon()
        self._wake()

    def leave_to_end(self) -> None:
        """The reader has all it wants, and the answer is about to end: the connection is kept if it does."""
        self._sink, self._ended = _ignore, None
        self._held.clear()
        self.unread = True
        self.resume()

    def break_off(self) -> None:
        """Give the engine up: the reader is told that the answer broke."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self.closed = True
            connection.abandon()
            self.lost()

    def came_head(self, status: int) -> None:
        """The connection has the status line and the headers."""
        self.status = status
        self.at = self.asked = time.monotonic()
        self._wake()

    def came(self, data: bytes) -> None:
        """The connection has bytes of the body."""
        self.at = time.monotonic()
        if self._sink is not None:
            self._sink(data)
            return
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > HELD_BYTES:
            self.pause()
        self._wake()

    def whole(self) -> None:
        """The answer is complete; the connection is no longer ours."""
        self._connection = None
        self._end()

    def lost(self) -> None:
        """The connection is gone before the answer was whole."""
        self._connection = None
        self.broken = True
        self._end()

    def _end(self) -> None:
        self.over = True
        self._wake()
        if self._ended is not None:
            self._ended()

    async def _wait(self) -> None:
        self._waiter = self._future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.Protocol):
    """A kept connection to one engine; one exchange at a time."""

    def __init__(self, idle: Callable[[Connection], None], gone: Callable[[Connection], None]) -> None:
        self._idle, self._gone = idle, gone
        self._loop: asyncio.AbstractEventLoop | None = None
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._parts: list[bytes] = []
        self._complete = self._kept = self._paused = False
        self.used = False  # served an exchange before: the engine may be closing it at this moment
        self.idle_since = 0.0
        self.on_body = self._parts.append  # called by the parser, in C, for each chunk
        self._parser = httptools.HttpResponseParser(self)

    def future(self) -> asyncio.Future[None]:
        """Of the loop in which it lives; to ask which one runs costs a call of the system, so once will do."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.create_future()

    def ask(self, request: bytes) -> Exchange:
        """Send a request; its answer comes in the exchange."""
        assert self._transport is not None  # noqa: S101 - made by create_connection
        exchange = self._exchange = Exchange(self)
        self._complete = False
        self._transport.write(request)
        return exchange

    def silent_since(self) -> float:
        """When the engine said something last; infinite while nothing is asked of it or the client is slow."""
        return math.inf if self._exchange is None or self._paused else self._exchange.at

    @property
    def asked_at(self) -> float:
        """When the engine was asked what it has not answered to its end; infinite while it owes nothing."""
        return math.inf if self._exchange is None or self._paused else self._exchange.asked

    @property
    def heard_at(self) -> float:
        """When a piece of an answer came last; minus infinity before the first."""
        exchange = self._exchange
        if exchange is None:
            return self.idle_since or -math.inf
        return exchange.at if exchange.at > exchange.asked else -math.inf

    @property
    def unread(self) -> bool:
        """Whether it only waits for the end of an answer that nobody reads any more."""
        return self._exchange is not None and self._exchange.unread

    def break_off(self) -> None:
        """Give the engine up; the reader is told."""
        if self._exchange is not None:
            self._exchange.break_off()

    def pause(self) -> None:
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
            if self._exchange is not None:
                self._exchange.at = time.monotonic()  # the silence was ours

    def abandon(self) -> None:
        """The exchange is given up: the engine learns of it by the closed connection."""
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._broke()
            return
        exchange, parts = self._exchange, self._parts
        if exchange is None:
            self._broke()  # nothing was asked
            return
        if parts:
            joined = parts[0] if len(parts) == 1 else b"".join(parts)
            parts.clear()
            exchange.came(joined)
        if self._complete:
            self._complete = False
            self._done(exchange)

    def on_message_begin(self) -> None:
        if self._complete:
            raise EngineUnreachable("the engine answered twice")  # the parser makes it an error of its own

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._exchange is not None and status >= FINAL:
            self._exchange.came_head(status)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= FINAL:
            self._complete = True
            self._kept = self._parser.should_keep_alive()  # the parser knows it at this moment alone

    def eof_received(self) -> None:
        """The engine closes: the transport closes too."""

    def connection_lost(self, _: Exception | None) -> None:
        exchange, self._exchange, self._transport = self._exchange, None, None
        self._gone(self)
        if exchange is not None:
            exchange.lost()

    def _broke(self) -> None:
        """What came is no HTTP."""
        exchange, self._exchange = self._exchange, None
        if self._transport is not None:
            self._transport.abort()
        if exchange is not None:
            exchange.lost()

    def _done(self, exchange: Exchange) -> None:
        """Ready for the next exchange, unless the engine said that it closes."""
        if exchange is not self._exchange:
            return  # the reader closed it while it was told
        self._exchange, self.used = None, True
        self.resume()
        if self._kept:
            self._idle(self)
        elif self._transport is not None:
            self._transport.close()
        exchange.whole()
