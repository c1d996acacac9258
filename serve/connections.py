"""The kept connections to one engine: taken and given back, renewed when stale, given up when silent."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from serve.errors import EngineUnreachable
from serve.exchange import Connection, Exchange

IDLE_SECONDS = 30.0  # vLLM closes after 5; whatever stands between may not
SWEEP_SECONDS = 1.0
END_SECONDS = 1.0  # from the last event of an answer to the end of the answer


class Connections:
    """To one engine at ``url``; ``address`` replaces the host where its name has several."""

    def __init__(
        self, url: str, *, connect_seconds: float, silence_seconds: float, address: str | None = None
    ) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._address = address or self._host
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._connect_seconds, self._silence_seconds = connect_seconds, silence_seconds
        self._open: set[Connection] = set()
        self._free: list[Connection] = []  # the one used last is taken first: the others may grow old
        self._sweep: asyncio.TimerHandle | None = None

    async def ask(self, request: bytes, taken: Callable[[Exchange], None]) -> Exchange:
        """Send a request, ready as bytes; returns when the head of its answer is here. ``taken`` is handed the
        exchange before that, so that it can be closed meanwhile. Raises EngineUnreachable.

        An engine may close a kept connection at the moment it is used; then the request, of which no byte was
        answered, goes over a fresh one, once. What was given up as silent is not asked again.
        """
        connection = self._free.pop() if self._free else await self._connect()
        while True:
            stale = connection.used
            exchange = connection.ask(request)
            taken(exchange)
            try:
                await exchange.head()
            except EngineUnreachable:
                if not stale or exchange.closed:
                    raise
            except BaseException:
                exchange.close()
                raise
            else:
                return exchange
            connection = await self._connect()

    def break_silent(self, seconds: float, *, unread_seconds: float = END_SECONDS) -> int:
        """Break off what has been silent for so long; their readers are told. Returns how many."""
        now = time.monotonic()
        silent = [
            connection
            for connection in self._open
            if now - connection.silent_since() >= (unread_seconds if connection.unread else seconds)
        ]
        for connection in silent:
            connection.break_off()
        return len(silent)

    def silence(self) -> float:
        """Seconds for which everybody who waits for the engine has heard nothing, and nobody else either; 0 when
        nobody waits.
        """
        asked = min((connection.asked_at for connection in self._open), default=math.inf)
        if asked == math.inf:
            return 0.0
        heard = max(connection.heard_at for connection in self._open)
        return max(0.0, time.monotonic() - max(asked, heard))

    def close(self) -> None:
        """Close every connection, at the end of the process or when the engine left the pool."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in list(self._open):
            connection.close()
        self._free.clear()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._idle, self._gone),
                    self._address,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
        except (OSError, TimeoutError) as error:
            raise EngineUnreachable("the engine could not be reached") from error
        self._open.add(connection)
        if self._sweep is None:
            self._sweep = loop.call_later(SWEEP_SECONDS, self._swept)
        return connection

    def _idle(self, connection: Connection) -> None:
        connection.idle_since = time.monotonic()
        self._free.append(connection)

    def _gone(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._free:
            self._free.remove(connection)

    def _swept(self) -> None:
        """One timer for all: requests set none of their own."""
        self.break_silent(self._silence_seconds)
        before = time.monotonic() - IDLE_SECONDS
        for connection in [one for one in self._free if one.idle_since < before]:
            self._free.remove(connection)
            connection.close()
        loop = asyncio.get_running_loop()
        self._sweep = loop.call_later(SWEEP_SECONDS, self._swept) if self._open else None
