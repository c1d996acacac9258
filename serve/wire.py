"""What a connection may send: a head of bounded size, a request within a bounded time, and HTTP.

uvicorn's own protocol bounds none of these: a head without an end would fill the memory, and a request that
never becomes whole would hold its connection for ever.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serve.errors import GatewayError, HeadTooLarge, NotHttp, body_of

MAX_HEAD = 64 * 1024  # bytes of request line and headers, give or take a read of the socket
ARRIVAL_SECONDS = 60.0  # from a request's first byte to its last


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol over httptools, within these bounds; refusals have the contract's shape."""

    arrival_seconds = ARRIVAL_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head: int | None = 0  # bytes of the head so far; None: it is whole, the body comes
        self._arriving: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            if self._head > MAX_HEAD:
                self._refuse(HeadTooLarge(f"request line and headers are over {MAX_HEAD} bytes"))
                return
            self._head += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        self._head = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._head = 0
        self._arrived()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls to say that what came does not parse."""
        self._refuse(NotHttp(msg))

    def _refuse(self, error: GatewayError) -> None:
        data = orjson.dumps(body_of(error))
        status = HTTPStatus(error.status)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(data)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + data)
        self.transport.close()

    def _wait(self) -> None:
        if self._arriving is None:
            self._arriving = self.loop.call_later(self.arrival_seconds, self._late)

    def _arrived(self) -> None:
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None

    def _late(self) -> None:
        """Close; not under a former request of this connection that is still being answered."""
        self._arriving = None
        if self._head is not None and self.cycle is not None and not self.cycle.response_complete:
            self._wait()
        else:
            self.transport.close()
