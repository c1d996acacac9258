"""The hot path: bytes from engine to client, renamed on the way, read only after they were sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve.chats import Upstream
from serve.errors import EngineUnreachable
from serve.leaving import until_left
from serve.record import CLIENT_LEFT, Record
from serve.sse import Rename, error_event

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
_BODY = "http.response.body"


class ChatStream(Response):
    """Streams one upstream answer; closes it when the client leaves; ``finish`` runs whatever happens."""

    def __init__(
        self, upstream: Upstream, record: Record, finish: Callable[[Record], None], headers: Mapping[str, str]
    ) -> None:
        super().__init__(headers={**HEADERS, **headers})
        del self.headers["content-length"]
        self._upstream, self._record, self._finish = upstream, record, finish

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Pass bytes on until the engine is done or the client has left."""
        record, upstream = self._record, self._upstream
        left = asyncio.ensure_future(until_left(receive))
        left.add_done_callback(lambda task: None if task.cancelled() else upstream.answer.close())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            record.saw_first()
            await self._pass_on(send)
        except EngineUnreachable:
            record.code = CLIENT_LEFT if left.done() else 502
            await send({"type": _BODY, "body": error_event("the engine broke off", "engine_error")})
        except asyncio.CancelledError:
            record.code = CLIENT_LEFT
            raise
        finally:
            left.cancel()
            upstream.close()
            self._finish(record)

    async def _pass_on(self, send: Send) -> None:
        record = self._record
        rename = Rename(self._upstream.served, record.request.model, keep_usage=record.request.include_usage)
        data = self._upstream.data
        while data:
            out = rename.feed(data)
            if out:
                record.keep(out)
                await send({"type": _BODY, "body": out, "more_body": True})
            if rename.done:
                break
            data = await self._upstream.read()
        record.usage = rename.usage
        if rename.error is not None or not rename.done:
            raise EngineUnreachable("the engine broke off")
        await send({"type": _BODY, "body": b""})
        await self._upstream.drain()
