"""The way past ASGI for a body that streams: bytes to the client's socket in the turn in which they came.

An ASGI ``send`` is a coroutine, so passing a chunk on would cost a wake-up of the task that awaits the engine.
``wire.BoundedProtocol`` puts a ``Direct`` into each request's scope as an extension. A chat's head and end go this way
too, past what a server does for heads that it does not know, and so do whole answers of the short way (``lane``); all
others go through ``send``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from serve.wire import BoundedProtocol

EXTENSION = "heed.direct"
_END = b"0\r\n\r\n"  # of a body in chunks


class Direct:
    """One request's client: write to it, know when it is slow, and learn that it left."""

    __slots__ = ("_cycle", "_ended", "_head", "_left", "_protocol", "_resumed")

    def __init__(self, protocol: BoundedProtocol, cycle: RequestResponseCycle) -> None:
        self._protocol, self._cycle = protocol, cycle
        self._head = b""  # goes out with what comes next
        self._ended = False  # what tells the client so is sent
        self._left: Callable[[], object] | None = None
        self._resumed: Callable[[], object] | None = None

    def future(self) -> asyncio.Future[None]:
        """Of the loop that serves this client; to ask which one runs would cost a call of the system."""
        loop: asyncio.AbstractEventLoop = self._protocol.loop
        return loop.create_future()

    @property
    def gone(self) -> bool:
        """Whether the client has left."""
        return bool(self._cycle.disconnected)

    @property
    def slow(self) -> bool:
        """Whether as much waits for the client as is held for it: 64 KiB."""
        return bool(self._protocol.flow.write_paused)

    async def ready(self) -> None:
        """Wait until the client is no longer slow, or has left."""
        await self._protocol.flow.drain()

    def start(self, headers: bytes, status: int = 200, length: int | None = None) -> None:
        """The head of a response; ``headers``: whole lines, but for those of the connection. Without a ``length`` its
        body streams. It goes out with the first piece: each write is a call of the system, and they are most of what a
        chat costs there.
        """
        cycle = self._cycle
        if cycle.disconnected:
            return
        cycle.response_started, cycle.waiting_for_100_continue = True, False
        # 1.0 knows no chunks: there a body of unknown length ends with the connection.
        cycle.chunked_encoding = length is None and cycle.scope["http_version"] == "1.1"
        lines = [STATUS_LINE[status], *(b"%b: %b\r\n" % pair for pair in cycle.default_headers), headers]
        if length is not None:
            lines.append(b"content-length: %d\r\n" % length)
        elif cycle.chunked_encoding:
            lines.append(b"transfer-encoding: chunked\r\n")
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        self._head = b"".join(lines) + b"\r\n"

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        """A whole response that does not stream, in one write; ``headers`` as in ``start``."""
        self.start(headers, status, len(body))
        self._head += body
        self.finish()

    def write(self, data: bytes, *, last: bool = False) -> None:
        """A piece of the body, after ``start``; ``last``: no other follows."""
        cycle = self._cycle
        if cycle.disconnected or self._ended:
            return
        self._ended = last
        if cycle.chunked_encoding:
            data = b"%b%x\r\n%b\r\n%b" % (self._head, len(data), data, _END if last else b"")
        elif self._head:
            data = self._head + data
        self._head = b""
        cycle.transport.write(data)

    def finish(self) -> None:
        """The body is whole; what the client sends next is looked at."""
        cycle = self._cycle
        if cycle.disconnected or cycle.response_complete:
            return
        rest = self._head + (_END if cycle.chunked_encoding and not self._ended else b"")
        if rest:
            cycle.transport.write(rest)
        self._head, self._ended = b"", True
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    def watch(
        self, *, left: Callable[[], object] | None = None, resumed: Callable[[], object] | None = None
    ) -> None:
        """Call ``left`` when the client leaves, at once when it has; ``resumed`` when it is no longer slow."""
        self._left, self._resumed = left, resumed
        if left is None and resumed is None:
            self._protocol.directs.discard(self)
            return
        self._protocol.directs.add(self)
        if self.gone and left is not None:
            left()

    def lost(self) -> None:
        """The protocol's connection is gone."""
        self._cycle.disconnected = True
        if self._left is not None:
            self._left()

    def drained(self) -> None:
        """The protocol may write again."""
        if self._resumed is not None:
            self._resumed()


def known_direct(scope: Scope) -> Direct | None:
    """The request's Direct; None under a server that is not ours."""
    return (scope.get("extensions") or {}).get(EXTENSION)


def direct_of(scope: Scope) -> Direct:
    """The request's Direct. Raises RuntimeError under a server that is not ours."""
    direct = known_direct(scope)
    if direct is None:
        raise RuntimeError("the gateway streams past ASGI: start it with `heed up` or `python -m serve`")
    return direct
