"""A connection to an engine that the test feeds by hand, without a socket."""

from __future__ import annotations

import asyncio
from typing import cast

from serve.exchange import Connection, Exchange


class Socket:
    """What a connection sees of its transport."""

    def __init__(self) -> None:
        self.written = b""
        self.reading, self.aborted, self.closed = True, False, False

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True


class Line:
    """A connection, its socket, and what it told its owner."""

    def __init__(self) -> None:
        self.idle: list[Connection] = []
        self.gone: list[Connection] = []
        self.socket = Socket()
        self.connection = Connection(self.idle.append, self.gone.append)
        self.connection.connection_made(cast("asyncio.Transport", self.socket))

    def ask(self) -> Exchange:
        return self.connection.ask(b"GET / HTTP/1.1\r\n\r\n")

    def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.data_received(piece)

    def break_off(self) -> None:
        self.connection.connection_lost(None)
