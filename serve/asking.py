"""Asks engines for one chat: which one, what to do when it fails, and who goes on where it broke off."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from serve.chat_messages import with_guidelines
from serve.continuation import (
    MADE_BY_THE_CHAT_ROUTE,
    Cut,
    Repeated,
    completion_body,
    from_completion,
    goes_on_from_tokens,
    tokens_told,
)
from serve.engines import BASE, Engine, Pool
from serve.errors import (
    ClientLeft,
    EngineError,
    EngineGarbled,
    EngineRefused,
    EngineUnreachable,
    Unavailable,
)
from serve.limits import Limits
from serve.metrics import Metrics
from serve.record import Record
from serve.routing import Plan, RouteTable
from serve.upstream import Reshape, Upstream

logger = logging.getLogger(__name__)
MOST_BROKEN = 2  # engines that may break under a chat; a third is spared: it may be the chat that kills them
TAKE_OVER_SECONDS = 15.0  # how long a broken stream waits for an engine that has its adapter
SEEDS = 2**31
_NONE: frozenset[str] = frozenset()


class Asking:
    """One chat's engines, from the first that is asked to the last that goes on."""

    def __init__(self, pool: Pool, metrics: Metrics, limits: Limits) -> None:
        self._pool, self._metrics, self._limits = pool, metrics, limits
        self.bring: Callable[[Plan, frozenset[str]], Awaitable[None]] = _nobody_brings

    async def open(self, record: Record, table: RouteTable) -> Upstream:
        """Ask until an engine answers; nothing was passed on yet, so another engine, and at last another
        adapter, may take over: when no engine that is up is about to have the one that was meant. The record says
        what really served. Raises Unavailable, EngineError, ClientLeft.
        """
        tried: set[tuple[str, str]] = set()
        planned, lost = record.plan, False
        last: EngineError | None = None
        failed: list[Engine] = []  # theirs is the fault if another can answer, else maybe the chat's

        def without(adapter: str) -> frozenset[str]:
            return frozenset(name for name, on in tried if on == adapter) if tried else _NONE

        while record.broken <= MOST_BROKEN:
            out = without(planned.adapter)
            here = self._pool.anywhere(planned.adapter, out)
            if (
                not here and record.plan.adapter == planned.adapter
            ):  # another had its turn when this one is nowhere
                await self.bring(planned, out)
            plan = planned
            if not here:
                plan = table.fallback(planned, lambda adapter: self._pool.anywhere(adapter, without(adapter)))
            record.plan = plan
            record.messages = with_guidelines(record.request.messages, plan.guidelines)
            engine = self._pool.choose(plan.adapter, without(plan.adapter), self._prefix(record))
            if engine is None:
                break
            try:
                upstream = await self._begin(engine, record)
            except EngineError as error:
                last = self._judged(error, engine, record, failed)
            else:
                for one in failed:
                    self._pool.failed(one)
                return upstream
            if isinstance(last, EngineRefused) and last.answered == 404 and not lost:
                lost = True  # it is being loaded again, and then the same engine can answer
            else:
                tried.add((engine.name, plan.adapter))
        raise last or Unavailable("the engine is warming up", code="engine_warming_up", retry_after=2)

    def _judged(
        self, error: EngineError, engine: Engine, record: Record, failed: list[Engine]
    ) -> EngineError:
        """What the client may hear of it, should no other engine do better. Raises it when none can."""
        if isinstance(error, EngineRefused):
            if error.status == 400:
                raise _blind(error, record) from error
            if error.answered == 404:
                self._pool.set_ready(engine, record.plan.adapter, False)
            if error.answered == 503:
                self._limits.places.engine_full()
        if isinstance(error, EngineGarbled) or getattr(error, "answered", 0) in {500, 501, 502, 504}:
            failed.append(engine)
            record.broken += 1
        return _blind(error, record) if isinstance(error, EngineRefused) else error

    async def resume(self, record: Record) -> Upstream:
        """Go on with a stream that its engine broke off, on another engine with the same adapter: what it gives
        begins where the client's copy ends. Raises EngineError, Unavailable, ClientLeft.
        """
        if record.diverged:
            raise EngineGarbled("the chat, told again, was another")
        cut = Cut(record.response_id, self._pool.served_name(record.plan.adapter), record.read())
        if cut.said.finish_reason:
            return Upstream(None, cut.served, lambda: None, data=cut.end())
        engine = next((one for one in self._pool.engines if one.name == record.engine), None)
        if engine is not None and not record.left:
            self._broke(engine, record)
        upstream = await self._take_over(record, cut)
        if upstream is None and record.left:
            raise ClientLeft("the client has left")
        self._metrics.continued.labels("ended" if upstream is None else "continued").inc()
        if upstream is None:
            raise EngineUnreachable("the engine broke off")
        return upstream

    async def _take_over(self, record: Record, cut: Cut) -> Upstream | None:
        """The rest of a reply, from the first engine that can give it; None when there is none."""
        until = time.monotonic() + TAKE_OVER_SECONDS
        tried: frozenset[str] = frozenset()
        while record.broken <= MOST_BROKEN and record.may_go_on:
            adapter, prefix = record.plan.adapter, self._prefix(record)
            engine = await self._pool.wait_for(adapter, tried, prefix, until, lambda: record.left)
            if engine is None:
                break
            try:
                return await self._go_on(engine, record, cut)
            except EngineError as error:
                logger.warning("%s could not go on with a stream: %s", engine.name, type(error).__name__)
                tried |= {engine.name}
        return None

    async def _begin(self, engine: Engine, record: Record) -> Upstream:
        """One try on one engine, up to the first bytes of a stream or to the end of a whole body."""
        plan, request = record.plan, record.request
        record.engine = engine.name
        more = dict(record.overrides)
        if request.stream and self._pool.several:
            if request.sampling.keys().isdisjoint(MADE_BY_THE_CHAT_ROUTE):
                more["return_token_ids"] = True
            elif "seed" not in request.sampling and record.seed is None:
                record.seed = more["seed"] = random.randrange(SEEDS)
        served = self._pool.served_name(plan.adapter)
        body = request.engine_body(served, record.messages, more, record.priority)
        self._metrics.overhead.observe(time.perf_counter() - record.began)
        release = engine.hold(plan.adapter)
        request_id = record.response_id.removeprefix("chatcmpl-")
        with self._blaming(engine, record, release):
            exchange = await engine.client.open_chat(body, request_id, record.ask)
            upstream = Upstream(exchange, served, release)
            await (upstream.begin() if request.stream else upstream.body())
            _check(upstream)
        return upstream

    async def _go_on(self, engine: Engine, record: Record, cut: Cut) -> Upstream:
        """The rest of a reply from another engine, from its tokens where that can be, else by telling it again."""
        record.engine = engine.name
        release = engine.hold(record.plan.adapter)
        request_id = record.response_id.removeprefix("chatcmpl-")
        with self._blaming(engine, record, release):
            sampling = {**record.request.sampling, **record.overrides}
            if goes_on_from_tokens(cut.said):
                told = await tokens_told(engine.client, cut)
                cut.said.token_ids[:] = told
                context = int(engine.loaded.get(self._pool.base_name, {}).get("max_model_len") or 0)
                body = completion_body(cut, told, sampling, context, record.priority)
                exchange = await engine.client.open_completion(body, request_id, record.ask)
                reshape: Reshape | None = from_completion(cut, len(told))
                upstream = Upstream(exchange, cut.served, release, reshape=reshape)
            else:
                body = record.request.engine_body(
                    cut.served, record.messages, record.overrides, record.priority
                )
                exchange = await engine.client.open_chat(body, request_id, record.ask)
                nothing_sent = not cut.said.created
                reshape = None if nothing_sent else Repeated(cut, record.diverge)
                upstream = Upstream(exchange, cut.served, release, reshape=reshape)
            await upstream.begin()
            _check(upstream)
        return upstream

    @contextmanager
    def _blaming(self, engine: Engine, record: Record, release: Callable[[], None]) -> Iterator[None]:
        """What happens between asking an engine and its first bytes tells about the engine."""
        engine.breaker.asked(time.monotonic())
        try:
            yield
        except BaseException as error:
            if record.exchange is not None:
                record.exchange.close()
            release()
            if record.left:
                raise ClientLeft("the client has left") from error
            if isinstance(error, EngineUnreachable):
                self._broke(engine, record)
            raise
        engine.breaker.worked()

    def _broke(self, engine: Engine, record: Record) -> None:
        record.broken += 1
        self._pool.lost(engine)

    def _prefix(self, record: Record) -> bytes:
        """What an engine that knows it need not compute again: the adapter, the guidelines and the first question,
        which all turns of a conversation share.
        """
        if not self._pool.several:
            return b""
        start: list[str] = [record.plan.adapter]
        for message in record.messages:
            start.append(str(message.get("content")))
            if message["role"] == "user":
                break
        return "\0".join(start).encode("utf-8", "surrogatepass")


async def _nobody_brings(_: Plan, __: frozenset[str]) -> None:
    """Adapters are what they are."""


def _check(upstream: Upstream) -> None:
    """Raises EngineUnreachable, EngineGarbled when what came first is nothing, or an error."""
    if not upstream.data:
        raise EngineUnreachable("the engine broke off")
    if upstream.data.startswith(b'data: {"error"'):
        raise EngineGarbled("the engine could not answer")


def _blind(error: EngineRefused, record: Record) -> EngineRefused:
    """The engine's message without the adapter's name; nothing of a server error's own words."""
    if error.status == 400:
        message = (
            str(error).replace(record.plan.adapter, record.plan.alias)
            if record.plan.adapter != BASE
            else str(error)
        )
    else:
        message = "the engine is busy" if error.status == 503 else "the engine could not answer"
    return EngineRefused(error.answered, message, error.param)
