"""A stream goes on where an engine broke off: what another engine is asked, and how its answer is made to fit.

Two ways. A plain reply goes on from its tokens: prompt and emitted token ids are handed to another engine's
completion route, and what it says is put into chat chunks. Whatever the chat route makes of tokens (tool calls,
structured output, log-probabilities) cannot go on in the middle: the same chat is asked again, what was sent already
is left out, and when the words differ from what was sent the stream ends with an error, not with a lie. Those chats
are given a seed, so that they can be repeated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from serve.chat_request import LOGGED_SAMPLING
from serve.engine_client import EngineClient
from serve.errors import EngineGarbled
from serve.sse import DONE, END, Reply, Strand, payload

LATE_TOKENS = 64  # whose text an engine may hold back: a stop text may be coming, or half a character
MADE_BY_THE_CHAT_ROUTE = frozenset({"tools", "response_format", "logprobs"})
SAMPLED = {*LOGGED_SAMPLING, "stop", "logit_bias", "ignore_eos"} - {"max_tokens"}  # what both routes know


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a reply was broken off."""

    response_id: str
    served: str  # the model's name on the engines
    said: Reply

    def chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        """An event as the engine would have written it."""
        body = {
            "id": self.response_id,
            "object": "chat.completion.chunk",
            "created": self.said.created,
            "model": self.served,
            "choices": choices,
            **more,
        }
        return b"data: " + orjson.dumps(body) + END

    def end(self) -> bytes:
        """The end of a reply that had told its last token and not that it was over."""
        said = self.said
        if said.completion_tokens:
            return DONE  # the usage was told
        return self.chunk([], usage=usage(len(said.prompt_token_ids), len(said.token_ids))) + DONE


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """OpenAI's usage."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def goes_on_from_tokens(said: Reply) -> bool:
    """Whether all that was sent is text whose tokens are known."""
    return said.plain and bool(said.prompt_token_ids)


async def tokens_told(client: EngineClient, cut: Cut) -> list[int]:
    """The emitted tokens whose text was sent, the late ones left out. Raises EngineError, EngineGarbled when
    text and tokens do not fit.
    """
    tokens, text = cut.said.token_ids, cut.said.text
    for late in range(min(LATE_TOKENS, len(tokens)) + 1):
        told = tokens[: len(tokens) - late]
        if (await client.detokenize(cut.served, told) if told else "") == text:
            return told
    raise EngineGarbled("what was said does not fit its tokens")


def completion_body(
    cut: Cut, tokens: list[int], sampling: dict[str, Any], context: int, priority: int
) -> bytes:
    """The completion that goes on after ``tokens``. ``context`` is the engine's longest prompt and reply."""
    prompt = [*cut.said.prompt_token_ids, *tokens]
    most = sampling["max_tokens"] - len(tokens) if "max_tokens" in sampling else context - len(prompt)
    body = {
        "model": cut.served,
        "prompt": prompt,
        "max_tokens": max(1, most),
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
        **{name: value for name, value in sampling.items() if name in SAMPLED},
        **({"priority": priority} if priority else {}),
    }
    if bias := remembered(tokens, sampling):
        body["logit_bias"] = bias
    return orjson.dumps(body)


def remembered(tokens: Sequence[int], sampling: Mapping[str, Any]) -> dict[str, float]:
    """The bias that makes the other engine penalise what was said before the break: it takes those tokens for prompt,
    which presence and frequency penalties leave out. Both lower a token's logit by addition, so frequency comes out
    exactly; a token said before and after is penalised for its presence twice. (Repetition penalties see prompts.)
    """
    presence, frequency = (float(sampling.get(f"{name}_penalty") or 0) for name in ("presence", "frequency"))
    if not (presence or frequency):
        return {}
    bias = {str(token): float(value) for token, value in (sampling.get("logit_bias") or {}).items()}
    for token, count in Counter(tokens).items():
        bias[str(token)] = bias.get(str(token), 0.0) - presence - frequency * count
    return bias


class _Events:
    """Whole events out of bytes; what is not whole waits."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> list[bytes]:
        *whole, self._held = (self._held + data).split(END)
        return [event + END for event in whole]


def from_completion(cut: Cut, told: int) -> Callable[[bytes], bytes]:
    """Completion events → chat events. ``told`` tokens came before."""
    events = _Events()
    prompt_tokens = len(cut.said.prompt_token_ids)

    def one(event: bytes) -> bytes:
        body = payload(event)
        if body is None or "error" in body:
            return event
        if not body.get("choices"):
            spent = (body.get("usage") or {}).get("completion_tokens", 0)
            return cut.chunk([], usage=usage(prompt_tokens, told + spent))
        choice = body["choices"][0]
        made = {
            "index": 0,
            "delta": {"content": choice.get("text") or ""},
            "logprobs": None,
            "finish_reason": choice.get("finish_reason"),
            "token_ids": choice.get("token_ids") or [],
        }
        return cut.chunk([made])

    return lambda data: b"".join(map(one, events.feed(data)))


class Diverged(EngineGarbled):
    """The chat, asked again, says something else than before."""


class Repeated:
    """The same chat, told again: leaves out what was sent. Call with bytes; raises nothing: when the words differ,
    ``diverged`` is called, an error event comes out, and nothing after it.
    """

    def __init__(self, cut: Cut, diverged: Callable[[], None]) -> None:
        self._events = _Events()
        self._old = cut.said.strands()
        self._new: dict[Strand, str] = {}
        self._logprobs_left = cut.said.logprobs
        self._cut, self._diverged = cut, diverged
        self._over = False

    def __call__(self, data: bytes) -> bytes:
        out: list[bytes] = []
        for event in self._events.feed(data):
            if self._over:
                break
            try:
                out.append(self._one(event))
            except Diverged:
                self._over = True
                self._diverged()
                out.append(b'data: {"error": {}}' + END)
        return b"".join(out)

    def _one(self, event: bytes) -> bytes:
        body = payload(event)
        if body is None or not body.get("choices"):
            return event
        choice = body["choices"][0]
        delta = self._rest(choice.get("delta") or {})
        logprobs = self._logprobs(choice.get("logprobs"))
        if choice.get("finish_reason"):
            if any(len(self._new.get(strand, "")) < len(text) for strand, text in self._old.items()):
                raise Diverged("it ended earlier than before")
        elif not delta and not logprobs:
            return b""
        rest = {**choice, "delta": delta, "logprobs": logprobs}
        return self._cut.chunk([rest])

    def _rest(self, delta: dict[str, Any]) -> dict[str, Any]:
        """What of a delta goes beyond what was sent."""
        rest: dict[str, Any] = {}
        for name in ("content", "reasoning"):
            if isinstance(delta.get(name), str) and (more := self._beyond((name, 0), delta[name])):
                rest[name] = more
        calls = [made for call in delta.get("tool_calls") or () if (made := self._call(call))]
        if calls:
            rest["tool_calls"] = calls
        return rest

    def _call(self, call: dict[str, Any]) -> dict[str, Any] | None:
        index, function = int(call.get("index", 0)), call.get("function") or {}
        begun = ("name", index) in self._old
        name = self._beyond(("name", index), function.get("name") or "")
        arguments = self._beyond(("arguments", index), function.get("arguments") or "")
        if not begun:
            return call
        if not name and not arguments:
            return None
        return {"index": index, "function": {"arguments": arguments}}

    def _beyond(self, strand: Strand, more: str) -> str:
        old, before = self._old.get(strand, ""), self._new.get(strand, "")
        now = self._new[strand] = before + more
        shared = min(len(old), len(now))
        if now[:shared] != old[:shared]:
            raise Diverged("it says something else than before")
        return now[max(len(before), len(old)) :]

    def _logprobs(self, logprobs: dict[str, Any] | None) -> dict[str, Any] | None:
        if not logprobs or not logprobs.get("content"):
            return logprobs
        content = logprobs["content"]
        skipped = min(self._logprobs_left, len(content))
        self._logprobs_left -= skipped
        return {**logprobs, "content": content[skipped:]} if skipped < len(content) else None
