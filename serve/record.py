"""What is known of one response while it is made; at the end it becomes the Response event."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import orjson

from feedback.events import Response
from serve.auth import Caller
from serve.chat_messages import logged_messages
from serve.chat_request import ChatRequest
from serve.errors import EngineGarbled
from serve.exchange import Exchange
from serve.routing import Plan
from serve.sse import NOT_A_CHAT, Reply

CLIENT_LEFT = 499  # as nginx counts it
ENGINE_PRIORITY = {"high": -10, "normal": 0, "low": 10}
COPY_BYTES = 4 * 1024 * 1024  # a reply longer than this is logged without its text
UNREAD_BYTES = 32 * 1024  # of events kept as they came; then they are read into the reply, which is smaller


@dataclass(slots=True)
class Record:
    """What is known of one response while it is made; becomes its event at the end."""

    request: ChatRequest
    plan: Plan
    response_id: str
    subject: str
    caller: Caller | None = None  # whose key pays
    author: str | None = None  # whose prompt it is, when a rater asks it; None: the subject's
    comparison_id: str | None = None
    side: int | None = None
    seed: int | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)  # as the engine saw them
    began: float = field(default_factory=time.perf_counter)
    first: float = 0.0  # perf_counter at the first byte; 0: there was none
    first_at: float = 0.0  # Unix seconds at the first byte
    ended: float = 0.0
    engine: str = ""
    code: int = 200
    reply: Reply = field(default_factory=Reply)
    exchange: Exchange | None = None  # with the engine that is asked now
    left: bool = False  # the client
    diverged: bool = False  # told again by another engine, it said something else
    broken: int = 0  # engines that broke off under this chat
    _unread: list[bytes] = field(default_factory=list)
    _unread_bytes: int = 0
    _size: int = 0

    @property
    def priority(self) -> int:
        """The engine's: lower comes first."""
        key = self.caller.record if self.caller is not None else None
        return ENGINE_PRIORITY.get(key.priority, 0) if key is not None else 0

    @property
    def overrides(self) -> dict[str, float | int]:
        """Sampling settings of the arm and of the comparison."""
        seed = {} if self.seed is None else {"seed": self.seed}
        return {**self.plan.sampling, **seed}

    @property
    def may_go_on(self) -> bool:
        """Whether another engine can take over: somebody reads it, and what was sent is known."""
        return not (self.left or self.diverged or self._size > COPY_BYTES)

    def saw_first(self) -> None:
        self.first, self.first_at = time.perf_counter(), time.time()

    def leave(self) -> None:
        """The client has left: the engine is to stop, wherever the chat is."""
        self.left = True
        if self.exchange is not None:
            self.exchange.close()

    def diverge(self) -> None:
        """What was sent cannot be gone on with."""
        self.diverged = True

    def ask(self, exchange: Exchange) -> None:
        """An engine is being asked."""
        self.exchange = exchange
        if self.left:
            exchange.close()

    def keep(self, events: bytes) -> None:
        """Note whole events that were passed on."""
        self._size += len(events)
        self._unread.append(events)
        self._unread_bytes += len(events)
        if self._unread_bytes > UNREAD_BYTES:
            self.read()

    def read(self) -> Reply:
        """The reply so far."""
        if self._unread:
            self.reply.take_events(b"".join(self._unread))
            self._unread.clear()
            self._unread_bytes = 0
            if self._size > COPY_BYTES:
                self.reply.drop_text()
        return self.reply

    def spent(self) -> tuple[int, int]:
        """Tokens of prompt and reply, as the engine told them. Who leaves before it has is not let off: each piece that
        came counts for one, and so do four bytes of a prompt that an engine was asked about.
        """
        reply = self.read()
        if reply.prompt_tokens or reply.completion_tokens or self.code != CLIENT_LEFT or not self.exchange:
            return reply.prompt_tokens, reply.completion_tokens
        texts = (str(one.get("content") or "").encode("utf-8", "surrogatepass") for one in self.messages)
        return len(reply.prompt_token_ids) or sum(map(len, texts)) // 4, reply.said

    def event(self) -> Response:
        """The Response event; without any text when the client asked for ``store: false``."""
        reply, stored = self.read(), self.request.stored
        prompt_tokens, completion_tokens = self.spent()
        return Response(
            event_id=self.response_id,
            response_id=self.response_id,
            time=self.first_at or time.time(),
            alias=self.plan.alias,
            adapter=self.plan.adapter,
            arm=self.plan.arm,
            subject=self.subject,
            author=self.author,
            experiment=self.plan.experiment,
            propensity=self.plan.propensity,
            arm_shares=dict(self.plan.shares),
            comparison_id=self.comparison_id,
            side=self.side,
            stored=stored,
            messages=logged_messages(self.messages) if stored else (),
            text=reply.text if stored else "",
            finish_reason=reply.finish_reason,
            sampling=self.request.logged_sampling(self.overrides),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            time_to_first_token=max(0.0, self.first - self.began) if self.first else 0.0,
            duration=max(0.0, self.ended - self.began),
            engine=self.engine,
            code=200 if self.code == CLIENT_LEFT else self.code,
        )


def whole_body(record: Record, data: bytes) -> dict[str, Any]:
    """The client's body of a chat that is not streamed, built fresh from the engine's. Raises
    EngineGarbled.
    """
    try:
        told = orjson.loads(data)
        choices = [_choice(choice) for choice in told["choices"]]
        created, usage = told["created"], told.get("usage") or {}
        record.reply.take({"choices": choices, "usage": usage})
    except (KeyError, *NOT_A_CHAT) as error:
        raise EngineGarbled("the engine's answer does not parse") from error
    return {
        "id": record.response_id,
        "object": "chat.completion",
        "created": created,
        "model": record.request.model,
        "choices": choices,
        "usage": {
            "prompt_tokens": record.reply.prompt_tokens,
            "completion_tokens": record.reply.completion_tokens,
            "total_tokens": record.reply.prompt_tokens + record.reply.completion_tokens,
        },
    }


def _choice(choice: dict[str, Any]) -> dict[str, Any]:
    said = choice["message"]
    message = {"role": "assistant", "content": said.get("content"), "refusal": said.get("refusal")}
    if said.get("tool_calls"):
        message["tool_calls"] = said["tool_calls"]
    return {
        "index": 0,
        "message": message,
        "logprobs": choice.get("logprobs"),
        "finish_reason": choice.get("finish_reason"),
    }
