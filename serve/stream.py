"""The hot path: bytes from engine to client, renamed on the way, in the turn of the loop in which they came.

No task is woken for a chunk. The coroutine only starts the stream and waits for its end; when the engine breaks
off before that, another one goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve.chats import Chats
from serve.direct import Direct, direct_of
from serve.errors import ClientLeft, EngineError, Unavailable
from serve.limits import Admitted
from serve.middleware.headers import PLAIN, lines_of, request_id
from serve.record import CLIENT_LEFT, Record
from serve.sse import Rename, error_event
from serve.upstream import Upstream

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
_FIXED = lines_of({**HEADERS, **PLAIN})


class ChatStream(Response):
    """Streams one chat; frees the engine when the client leaves; ``admitted`` is closed whatever happens."""

    def __init__(
        self,
        chats: Chats,
        upstream: Upstream,
        record: Record,
        admitted: Admitted,
        headers: Mapping[str, str],
    ) -> None:
        self.status_code, self.background = 200, None
        self._shown = headers
        self._chats, self._record, self._admitted = chats, record, admitted
        self._upstream = upstream
        self._rename = Rename(upstream.served, record.request.model, keep_usage=record.request.include_usage)

    async def __call__(self, scope: Scope, _: Receive, __: Send) -> None:
        """Pass bytes on until the reply is whole or the client has left."""
        record, direct = self._record, direct_of(scope)
        relay = Relay(direct, record, self._rename)
        direct.watch(left=relay.leave, resumed=relay.resume)
        try:
            if direct.slow:
                await direct.ready()
            direct.start(_FIXED + lines_of({**self._shown, **request_id()}))
            record.saw_first()
            await self._pass_on(relay)
        except (EngineError, Unavailable, ClientLeft):
            record.code = CLIENT_LEFT if record.left else 502
            direct.write(error_event("the engine broke off", "engine_error"))
        except asyncio.CancelledError:
            record.code = CLIENT_LEFT
            raise
        except Exception:
            record.code = 500
            raise
        finally:
            direct.watch()
            self._upstream.close(done=self._rename.done)
            self._admitted.close()
            self._chats.finish(record)
        if direct.slow:
            await direct.ready()
        direct.finish()

    async def _pass_on(self, relay: Relay) -> None:
        """Raises EngineError, Unavailable when no engine could finish what one had begun."""
        record = self._record
        while True:
            await relay.run(self._upstream)
            if self._rename.done:
                return
            if record.left:
                record.code = CLIENT_LEFT
                return
            self._upstream.close()
            self._rename.again()
            self._upstream = await self._chats.asking.resume(record)


class Relay:
    """Between one engine and one client; plain calls alone, so nothing here waits."""

    def __init__(self, direct: Direct, record: Record, rename: Rename) -> None:
        self._direct, self._record, self._rename = direct, record, rename
        self._upstream: Upstream | None = None
        self._over: asyncio.Future[None] | None = None

    async def run(self, upstream: Upstream) -> None:
        """Until the reply is whole, the engine broke off or the client left."""
        self._upstream = upstream
        self._over = self._direct.future()
        if not self._record.left:
            upstream.stream(self._came, self.end)
            await self._over
        self._upstream = None

    def leave(self) -> None:
        """The client has left."""
        self._record.leave()
        self.end()

    def resume(self) -> None:
        """The client takes more."""
        if self._upstream is not None:
            self._upstream.resume()

    def end(self) -> None:
        """Nothing more will come."""
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    def _came(self, data: bytes) -> None:
        rename, direct = self._rename, self._direct
        out = rename.feed(data)
        if rename.whole:
            self._record.keep(rename.whole)
        if out:
            direct.write(out, last=rename.done)
            if direct.slow and self._upstream is not None:
                self._upstream.pause()
        if rename.done or rename.error is not None:
            self.end()
