"""What becomes of a chat when it is over: counted, logged, and remembered for the votes that follow."""

from __future__ import annotations

import time
from collections import OrderedDict, deque

from feedback.events import Response
from feedback.redaction import Redaction
from serve.asking import Asking
from serve.chat_messages import logged_messages
from serve.engines import Pool
from serve.limits import Limits
from serve.metrics import Metrics, code_label
from serve.prompts import Prompt
from serve.record import Record
from serve.writer import Writer

RECENT_PROMPTS, RECENT_PROMPT_CHARACTERS = 500, 4000
RECENT_RESPONSES = 20_000


class Chats:
    """All chats of the process: ``asking`` their engines, and what came of it."""

    def __init__(
        self, pool: Pool, writer: Writer, metrics: Metrics, limits: Limits, redact: Redaction
    ) -> None:
        self.asking = Asking(pool, metrics, limits)
        self.redact = redact
        self._writer, self._metrics, self._limits = writer, metrics, limits
        self.recent_prompts: deque[Prompt] = deque(maxlen=RECENT_PROMPTS)
        self.recent: OrderedDict[str, tuple[str, str]] = OrderedDict()  # response id → alias, adapter

    def finish(self, record: Record) -> None:
        """Count the chat and hand its event to the writer, which also parses what was said."""
        record.ended = time.perf_counter()
        plan, request = record.plan, record.request
        self._metrics.chat_requests.labels(plan.alias, plan.arm, plan.adapter, code_label(record.code)).inc()
        if request.stored:
            self.recent[record.response_id] = (record.plan.alias, record.plan.adapter)
            if len(self.recent) > RECENT_RESPONSES:
                self.recent.popitem(last=False)
            if not self.redact.on:
                self._remember(record)
        self._writer.forget(lambda: self._closing(record))

    def forget(self, subject: str) -> None:
        """Drop the subject's prompts from memory."""
        kept = [prompt for prompt in list(self.recent_prompts) if prompt.subject != subject]
        self.recent_prompts = deque(kept, RECENT_PROMPTS)

    def _remember(self, record: Record) -> None:
        """The prompt, for raters."""
        messages = record.request.messages
        short = sum(len(one.get("content") or "") for one in messages) < RECENT_PROMPT_CHARACTERS
        if record.comparison_id is None and short and "tools" not in record.request.sampling:
            shown = self.redact.messages(logged_messages(messages))
            if shown:
                self.recent_prompts.append(Prompt(record.plan.alias, record.subject, shown))

    def _closing(self, record: Record) -> Response:
        """Runs in the writer's thread."""
        event = record.event()
        if record.request.stored and self.redact.on:  # that takes its time: not where others stream
            self._remember(record)
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
