"""What a connection may send and how long it may take: a head of bounded size, a whole request within a bounded
time, and HTTP; and how long it may leave what was sent to it unread.

uvicorn's own protocol bounds none of these: a head or trailer without an end would fill the memory, and a
request that never becomes whole, or a reply that nobody reads, would hold its connection for ever.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serve.direct import EXTENSION, Direct
from serve.errors import GatewayError, HeadTooLarge, NotHttp, body_of
from serve.heads import MAX_HEAD, check_head
from serve.middleware.headers import PLAIN, lines_of, request_id

ARRIVAL_SECONDS = 60.0  # from a request's first byte to its last
TAKING_SECONDS = 60.0  # for a client that is slow to take what waits for it, 64 KiB
LEAVING_SECONDS = 2.0  # for a client that was refused to stop sending
MAX_PIPELINED = 64  # requests of one connection that wait while another is answered
FRAMING = 16  # bytes around a body's chunks, for each byte of the body


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol over httptools, within these bounds; refusals have the contract's shape."""

    arrival_seconds = ARRIVAL_SECONDS
    taking_seconds = TAKING_SECONDS
    leaving_seconds = LEAVING_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True  # or between two requests; False: the body comes
        self._around, self._body = 0, 0  # bytes of this request: around its body, and of it
        self._begun = False  # a request has begun and is not whole
        self._refused = False
        self._answered: RequestResponseCycle | None = (
            None  # ``cycle`` is the newest, which may wait behind it
        )
        self._arriving: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None
        self.directs: set[Direct] = set()  # of requests that want to know when the client leaves

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        self._taken()
        super().connection_lost(exc)
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True
            self._answered.message_event.set()
        for direct in tuple(self.directs):
            direct.lost()

    def data_received(self, data: bytes) -> None:
        """In place of uvicorn's, which would log a line for each refusal and forget the rest of an upgrade."""
        if self._refused:
            return
        if self._around > MAX_HEAD + FRAMING * self._body:
            self._refuse(HeadTooLarge(f"what is around the body is over {MAX_HEAD} bytes"))
            return
        self._around += len(data)
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refused = True  # nothing is upgraded to; the request is answered and is the last
            self.cycle.keep_alive = False
        except httptools.HttpParserError as error:
            ours = error.__context__
            self._refuse(ours if isinstance(ours, GatewayError) else NotHttp("this does not parse as HTTP"))
        else:
            # Most requests come whole and need no timer; what comes between two has ended the wait for the next.
            if self._begun or self.cycle is None or self.cycle.response_complete:
                self._wait()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun = True

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        check_head(version, self.url, self.headers)
        if len(self.pipeline) >= MAX_PIPELINED:
            raise NotHttp(f"over {MAX_PIPELINED} requests wait on this connection")
        self._in_head = False
        super().on_headers_complete()
        extensions: dict[str, Any] = {EXTENSION: Direct(self, self.cycle)}
        self.scope["extensions"] = extensions
        self.headers = []  # a trailer is no header: it ends up here, not among those that were checked
        if version == "1.0":
            self.cycle.waiting_for_100_continue = False  # 1.0 knows no news of an answer to come
            _without_chunks(self.cycle)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        self._around -= len(body)
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head, self._around, self._body = True, 0, 0
        self._begun = False
        self._arrived()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        # Else request, scope and Direct hold each other until the collector comes, which holds up all streams.
        if self._answered is not None:
            self._answered.scope["extensions"].clear()
        super().on_response_complete()
        self._ending()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._ending()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._must_take()

    def resume_writing(self) -> None:
        self._taken()
        super().resume_writing()
        for direct in tuple(self.directs):
            direct.drained()

    def _refuse(self, error: GatewayError) -> None:
        """Say why and close; what came before on this connection is answered first."""
        self._refused = True
        cycle = self.cycle
        if self._in_head and cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False
            return
        if not self._in_head:
            started = cycle.response_started or bool(self.pipeline)
            cycle.disconnected = True  # whoever reads this body learns that it never became whole
            cycle.message_event.set()
            if started:
                self._close()
                return
        self.transport.write(_refusal(error))
        self.transport.write_eof()  # to close while bytes come in would reset the connection and lose the answer
        self._arrived()
        self._arriving = self.loop.call_later(self.leaving_seconds, self._close)

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
        behind = self.pipeline or (self._in_head and self.cycle is not None)
        if behind and not self.cycle.response_complete:
            self._wait()
        else:
            self._close()

    def _close(self) -> None:
        self.transport.close()
        self._ending()

    def _ending(self) -> None:
        """A connection that is closed waits for what is unread, and not for ever."""
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._must_take()

    def _must_take(self) -> None:
        if self._taking is None:
            self._taking = self.loop.call_later(self.taking_seconds, self.transport.abort)

    def _taken(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None


def _refusal(error: GatewayError) -> bytes:
    """A whole response in the contract's shape."""
    data = orjson.dumps(body_of(error))
    status = HTTPStatus(error.status)
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    lines = {"content-type": "application/json", "content-length": str(len(data)), "connection": "close"}
    return head + lines_of({**lines, **PLAIN, **request_id()}) + b"\r\n" + data


def _without_chunks(cycle: RequestResponseCycle) -> None:
    """HTTP/1.0 knows no chunks, and uvicorn sends them: here a body of unknown length ends with the connection."""
    send, endless = cycle.send, False

    async def sending(message: Any) -> None:
        nonlocal endless
        if message["type"] == "http.response.start":
            endless = all(name.lower() != b"content-length" for name, _ in message["headers"])
            cycle.chunked_encoding = False if endless else None
        elif endless:
            cycle.expected_content_length = len(
                message.get("body", b"")
            )  # what uvicorn holds each piece against
        await send(message)

    cycle.send = sending  # type: ignore[method-assign]
