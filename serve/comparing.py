"""Two responses to one prompt, blind: both asked at once, merged into one answer or one stream."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from feedback.ids import mint_comparison, sides
from serve.auth import Caller
from serve.chat_request import ChatRequest
from serve.chats import Chats
from serve.direct import direct_of
from serve.errors import ClientLeft, EngineError, EngineUnreachable, Unavailable
from serve.gateway import Gateway
from serve.record import CLIENT_LEFT, Record, whole_body
from serve.routing import Plan
from serve.sse import DONE, END, Rename, error_event, payload
from serve.stream import HEADERS
from serve.upstream import Upstream

_BODY = "http.response.body"
SEEDS = 2**31


def paired(
    gateway: Gateway, caller: Caller, asked: ChatRequest, subject: str, began: float
) -> tuple[str, tuple[Record, Record]]:
    """The comparison's id and its two records, sides at random, seeds apart."""
    table = gateway.table
    if asked.pinned is not None:
        plan = table.plan(asked.alias, asked.pinned, subject)
        plans: tuple[Plan, Plan] = (plan, plan)
    else:
        share = gateway.settings.compare_with_base_share
        plans = table.pair(asked.alias, subject, gateway.draw, share)
    comparison_id = mint_comparison(gateway.secrets, subject, now=time.time())
    ids = sides(gateway.secrets, comparison_id, subject)
    seed = int(asked.sampling.get("seed", gateway.draw.randrange(SEEDS)))
    first, second = (
        Record(
            asked,
            plans[side],
            ids[side],
            subject,
            caller,
            comparison_id=comparison_id,
            side=side,
            seed=seed + side if seed < 2**63 - 1 else seed - side,
            began=began,
        )
        for side in (0, 1)
    )
    return comparison_id, (first, second)


def leave_all(records: Sequence[Record]) -> None:
    """The client has left."""
    for record in records:
        record.leave()


async def open_both(gateway: Gateway, records: Sequence[Record]) -> list[Upstream]:
    """Ask for both at once; when one fails or the client leaves, the other is closed too."""
    table = gateway.table
    asking = [asyncio.ensure_future(gateway.chats.asking.open(record, table)) for record in records]
    try:
        return list(await asyncio.gather(*asking))
    except BaseException:
        for task in asking:
            task.cancel()
        for result in await asyncio.gather(*asking, return_exceptions=True):
            if isinstance(result, Upstream):
                result.close()
        raise


def whole_comparison(
    chats: Chats, comparison_id: str, records: Sequence[Record], upstreams: Sequence[Upstream]
) -> dict[str, Any]:
    """The client's body when nothing is streamed."""
    choices: list[dict[str, Any]] = []
    created = int(time.time())
    with ExitStack() as held:
        for upstream in upstreams:
            held.callback(upstream.close)
        for side, (record, upstream) in enumerate(zip(records, upstreams, strict=True)):
            record.saw_first()
            choice = whole_body(record, upstream.data)["choices"][0]
            choices.append({**choice, "index": side, "response_id": record.response_id})
    for record in records:
        chats.finish(record)
    return {
        "id": comparison_id,
        "object": "chat.comparison",
        "created": created,
        "model": records[0].request.model,
        "choices": choices,
    }


class ComparisonStream(Response):
    """Interleaves two upstream answers under their index. The first event carries all ids."""

    def __init__(
        self,
        comparison_id: str,
        records: Sequence[Record],
        upstreams: Sequence[Upstream],
        chats: Chats,
        held: ExitStack,
    ) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._id, self._records, self._upstreams = comparison_id, records, list(upstreams)
        self._chats, self._held = chats, held
        self._created = int(time.time())
        self._sending = asyncio.Lock()  # two readers, one client: each waits for the other's send

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        """Pass both on until both are done or the client has left."""
        direct, records = direct_of(scope), self._records
        direct.watch(left=lambda: leave_all(records))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await self._send(send, self._opening())
            await self._pass_both_on(send)
            await self._send(send, DONE)
            await send({"type": _BODY, "body": b""})
        except (EngineError, Unavailable, ClientLeft):
            for record in records:
                record.code = CLIENT_LEFT if record.left else 502
            await send({"type": _BODY, "body": error_event("the engine broke off", "engine_error")})
        except asyncio.CancelledError:
            for record in records:
                record.code = CLIENT_LEFT
            raise
        except Exception:
            for record in records:
                record.code = 500
            raise
        finally:
            direct.watch()
            for upstream in self._upstreams:
                upstream.close()
            self._held.close()
            for record in records:
                self._chats.finish(record)

    async def _pass_both_on(self, send: Send) -> None:
        """When one fails, the other ends too, before anything of theirs is given back."""
        passing = [asyncio.ensure_future(self._pass_on(side, send)) for side in (0, 1)]
        try:
            await asyncio.gather(*passing)
        finally:
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)

    async def _send(self, send: Send, data: bytes) -> None:
        await send({"type": _BODY, "body": data, "more_body": True})

    def _chunk(self, choices: list[dict[str, Any]]) -> bytes:
        body = {
            "id": self._id,
            "object": "chat.comparison.chunk",
            "created": self._created,
            "model": self._records[0].request.model,
            "choices": choices,
        }
        return b"data: " + orjson.dumps(body) + END

    def _opening(self) -> bytes:
        ids = [record.response_id for record in self._records]
        start = {"role": "assistant", "content": ""}
        choices = [
            {"index": side, "response_id": ids[side], "delta": start, "finish_reason": None}
            for side in (0, 1)
        ]
        return self._chunk(choices)

    async def _pass_on(self, side: int, send: Send) -> None:
        record = self._records[side]
        rename = Rename(self._upstreams[side].served, record.request.model, keep_usage=False)
        record.saw_first()
        while True:
            with contextlib.suppress(EngineUnreachable):
                await self._relay(side, rename, send)
            self._upstreams[side].close(done=rename.done)
            if rename.done:
                return
            rename.again()
            self._upstreams[side] = await self._chats.asking.resume(record)

    async def _relay(self, side: int, rename: Rename, send: Send) -> None:
        """Until the reply is whole, or its engine broke off."""
        record, upstream = self._records[side], self._upstreams[side]
        while not rename.done and rename.error is None and (data := await upstream.read()):
            rename.feed(data)
            record.keep(rename.whole)
            out = b"".join(self._rewritten(side, event) for event in rename.whole.split(END)[:-1])
            if out:
                async with self._sending:
                    await self._send(send, out)

    def _rewritten(self, side: int, event: bytes) -> bytes:
        body = payload(event)
        if body is None or not body.get("choices"):
            return b""
        choice = body["choices"][0]
        kept = {"index": side, "delta": choice.get("delta", {}), "finish_reason": choice.get("finish_reason")}
        if choice.get("logprobs"):
            kept["logprobs"] = choice["logprobs"]
        return self._chunk([kept])
