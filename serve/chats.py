"""One chat from its plan to its Response event: ask an engine, fail over, and keep the record."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass

import aiohttp

from feedback.events import Message, Response
from serve.chat_messages import logged_messages, with_guidelines
from serve.engine_client import BROKEN
from serve.engines import BASE, Engine, Pool
from serve.errors import EngineError, EngineGarbled, EngineRefused, EngineUnreachable, Unavailable
from serve.limits import Limits
from serve.metrics import Metrics, code_label
from serve.record import Record
from serve.routing import Plan, RouteTable
from serve.writer import Writer

RECENT_PROMPTS, RECENT_PROMPT_CHARACTERS = 500, 4000
RECENT_RESPONSES = 20_000
DRAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class RecentPrompt:
    """A prompt that raters may be asked about."""

    alias: str
    subject: str
    messages: tuple[Message, ...]


@dataclass(slots=True)
class Upstream:
    """An engine's answer that has begun; ``close`` gives back the connection and the counts."""

    answer: aiohttp.ClientResponse
    served: str  # the model's name there
    held: ExitStack
    data: bytes = b""  # the first chunk of a stream, or the whole body

    async def read(self) -> bytes:
        """The next bytes; empty at the end. Raises EngineUnreachable when the stream broke."""
        try:
            return await self.answer.content.readany()
        except BROKEN as error:
            raise EngineUnreachable("the engine broke off") from error

    async def drain(self) -> None:
        """Read the end of a stream that said it is done, so that its connection can be used again."""
        if not self.answer.content.at_eof():
            with contextlib.suppress(EngineUnreachable, TimeoutError):
                await asyncio.wait_for(self.read(), DRAIN_SECONDS)

    def close(self) -> None:
        """Safe to call twice. Closing before the end makes the engine stop generating."""
        if not self.answer.closed:
            self.answer.close()
        self.held.close()


class Chats:
    """Asks engines and logs what came of it."""

    def __init__(self, pool: Pool, writer: Writer, metrics: Metrics, limits: Limits) -> None:
        self._pool, self._writer, self._metrics, self._limits = pool, writer, metrics, limits
        self.recent_prompts: deque[RecentPrompt] = deque(maxlen=RECENT_PROMPTS)
        self.recent: OrderedDict[str, tuple[str, str]] = OrderedDict()  # response id → alias, adapter
        self.bring: Callable[[Plan], Awaitable[None]] = _nobody_brings

    async def open(self, record: Record, table: RouteTable) -> Upstream:
        """Ask until an engine answers; nothing was passed on yet, so another engine, and at last another
        adapter, may take over. The record says what really served. Raises Unavailable, EngineError.
        """
        tried: set[tuple[str, str]] = set()
        planned = record.plan
        last: EngineError | None = None

        def able(adapter: str) -> bool:
            engines = (engine for engine in self._pool.engines if engine.serves(adapter))
            return any((engine.name, adapter) not in tried for engine in engines)

        await self.bring(planned)
        while True:
            plan = table.fallback(planned, able)
            without = frozenset(name for name, adapter in tried if adapter == plan.adapter)
            engine = self._pool.choose(plan.adapter, without)
            if engine is None:
                raise last or Unavailable("the engine is warming up", code="engine_warming_up", retry_after=2)
            record.plan, record.engine = plan, engine.name
            try:
                return await self._ask(engine, record)
            except EngineRefused as error:
                if error.status == 400:
                    raise _blind(error, record) from error
                if error.answered == 404:
                    self._pool.set_ready(engine, plan.adapter, False)
                if error.answered == 503:
                    self._limits.places.engine_full()
                last = _blind(error, record)
            except EngineUnreachable as error:
                self._pool.lost(engine)
                last = error
            except EngineGarbled as error:
                last = error
            tried.add((engine.name, plan.adapter))

    async def _ask(self, engine: Engine, record: Record) -> Upstream:
        """One try on one engine, up to the first bytes of a stream or to the end of a whole body."""
        plan = record.plan
        record.messages = with_guidelines(record.request.messages, plan.guidelines)
        served = self._pool.served_name(plan.adapter)
        body = record.request.engine_body(served, record.messages, record.overrides, record.priority)
        held = ExitStack()
        held.enter_context(engine.holding(plan.adapter))
        self._metrics.overhead.observe(time.perf_counter() - record.began)
        answer = None
        try:
            answer = await engine.client.open_chat(body, record.response_id.removeprefix("chatcmpl-"))
            upstream = Upstream(answer, served, held)
            upstream.data = await (upstream.read() if record.request.stream else answer.read())
            if not upstream.data:
                raise EngineUnreachable("the engine broke off")
            if upstream.data.startswith(b'data: {"error"'):
                raise EngineGarbled("the engine could not answer")
        except BaseException as error:
            if answer is not None:
                answer.close()
            held.close()
            if isinstance(error, BROKEN) and not isinstance(error, EngineError):
                raise EngineUnreachable("the engine broke off") from error
            raise
        return upstream

    def finish(self, record: Record) -> None:
        """Count the chat and hand its event to the writer, which also parses what was said."""
        record.ended = time.perf_counter()
        plan, request = record.plan, record.request
        self._metrics.chat_requests.labels(plan.alias, plan.arm, plan.adapter, code_label(record.code)).inc()
        if request.stored:
            self._remember(record)
        self._writer.forget(lambda: self._closing(record))

    def forget(self, subject: str) -> None:
        """Drop the subject's prompts from memory."""
        kept = [prompt for prompt in self.recent_prompts if prompt.subject != subject]
        self.recent_prompts = deque(kept, RECENT_PROMPTS)

    def _remember(self, record: Record) -> None:
        """For votes that follow, which adapter it was; for raters, the prompt."""
        self.recent[record.response_id] = (record.plan.alias, record.plan.adapter)
        if len(self.recent) > RECENT_RESPONSES:
            self.recent.popitem(last=False)
        messages = record.request.messages
        short = sum(len(one.get("content") or "") for one in messages) < RECENT_PROMPT_CHARACTERS
        if record.comparison_id is None and short and "tools" not in record.request.sampling:
            prompt = RecentPrompt(record.plan.alias, record.subject, logged_messages(messages))
            self.recent_prompts.append(prompt)

    def _closing(self, record: Record) -> Response:
        """Runs in the writer's thread."""
        event = record.event()
        if record.caller is not None:
            self._limits.charge(record.caller, event.prompt_tokens + event.completion_tokens)
        adapter = record.plan.adapter
        metrics = self._metrics
        metrics.chat_tokens.labels(adapter, "prompt").inc(event.prompt_tokens)
        metrics.chat_tokens.labels(adapter, "completion").inc(event.completion_tokens)
        metrics.chat_duration.labels(adapter).observe(event.duration)
        if record.request.stream and record.first:
            metrics.first_token.labels(adapter).observe(event.time_to_first_token)
            if event.completion_tokens > 1:
                pause = (record.ended - record.first) / (event.completion_tokens - 1)
                metrics.inter_token.labels(adapter).observe(pause)
        return event


async def _nobody_brings(_: Plan) -> None:
    """Adapters are what they are."""


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
