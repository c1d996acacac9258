"""An engine that costs nothing: the chat stream that vLLM 0.32 writes, rendered once and sent from memory.

    python -m benchmarks.wire.upstream PORT

A streamed answer has ``max_tokens`` events of text (30 when not told) between its first, which names the role, and
its end (finish, usage when asked for, ``[DONE]``): 34 in all. ``POST /pace`` says how they are written: ``{"how":
"steps"}``, as at the start, each by itself and every stream in its turn, as an engine makes a token of each running
request in a step; ``"burst"``, each by itself, one answer after the other; ``"one"``, a whole answer in one write;
``{"how": "paced", "per_second": 50}``, each by itself, so many a second and stream. ``GET /left`` tells whose clients
left in the midst of a stream, and when.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
import uuid
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal, TypeAlias, cast

import httptools
import orjson
import uvloop

How: TypeAlias = Literal["steps", "burst", "one", "paced"]
WORDS = 30  # events of text when the request does not say how many
TEXTS = (" We", " open", " at", " eight", ",", " and", " yes", " dogs", " are", " welcome", " here", ".")
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
END = b"0\r\n\r\n"


def texts(count: int) -> list[str]:
    """The words of an answer."""
    return [TEXTS[number % len(TEXTS)] for number in range(count)]


def events(served: str, count: int, *, usage: bool, token_ids: bool = False) -> list[dict[str, Any]]:
    """The JSON of every event before ``[DONE]`` but its id and time, in vLLM's order of fields."""

    def chunk(choice: dict[str, Any], **more: Any) -> dict[str, Any]:
        shown = {"index": 0, **choice}
        return {"object": "chat.completion.chunk", "created": 1, "model": served, "choices": [shown], **more}

    def ids(number: int) -> list[int] | None:
        return [number] if token_ids else None

    first = {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    made = [chunk(first, prompt_token_ids=[1, 2, 3] if token_ids else None, prompt_text=None)]
    made += [
        chunk({"delta": {"content": text}, "logprobs": None, "finish_reason": None, "token_ids": ids(number)})
        for number, text in enumerate(texts(count), 10)
    ]
    last = {"delta": {"content": ""}, "logprobs": None, "finish_reason": "stop", "stop_reason": None}
    made.append(chunk(last | {"token_ids": ids(2)}))
    if usage:
        made.append(chunk({}, usage=tokens(count)) | {"choices": []})
    return made


def tokens(count: int) -> dict[str, int]:
    """vLLM's usage: the finishing event carries a token as well."""
    return {"prompt_tokens": 17, "total_tokens": 18 + count, "completion_tokens": 1 + count}


@lru_cache(maxsize=64)
def frames(
    served: str,
    count: int,
    usage: bool,
    token_ids: bool,
    id_length: int,
) -> tuple[tuple[bytes, ...], bytes]:
    """A stream's HTTP chunks, one an event, with ``@`` for each character of the id; and all in one."""
    answer_id = "chatcmpl-" + "@" * id_length
    told = [
        b"data: " + orjson.dumps({"id": answer_id, **event}) + b"\n\n"
        for event in events(served, count, usage=usage, token_ids=token_ids)
    ]
    made = tuple(b"%x\r\n%b\r\n" % (len(event), event) for event in [*told, b"data: [DONE]\n\n"])
    return made, STREAM_HEAD + b"".join(made) + END


def whole_answer(answer_id: str, served: str, count: int) -> bytes:
    """An answer that is not streamed, with its head."""
    message = {"role": "assistant", "content": "".join(texts(count)), "tool_calls": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop", "stop_reason": None}
    head = {"id": f"chatcmpl-{answer_id}", "object": "chat.completion", "created": 1, "model": served}
    return json_answer(head | {"choices": [choice], "usage": tokens(count), "prompt_logprobs": None})


def json_answer(body: Any, status: bytes = b"200 OK") -> bytes:
    """Any JSON with its head."""
    data = orjson.dumps(body)
    head = b"HTTP/1.1 %b\r\nserver: uvicorn\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(data)) + data


class State:
    """What all connections share."""

    def __init__(self) -> None:
        self.how: How = "steps"
        self.per_second = 0.0  # events a second and stream, where paced
        self.left: dict[str, float] = {}  # id of the answer → monotonic time at which its client had left
        self.adapters: dict[str, str] = {}


class Connection(asyncio.Protocol):
    """One connection, kept alive from request to request."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._url, self._body, self._id = b"", b"", b""
        self._queue: list[bytes] = []  # what is still to be sent of a paced stream, last first
        self._next = self._period = 0.0  # seconds
        self._timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        if self._timer is not None:
            self._timer.cancel()
            self._state.left[self._id.decode()] = time.monotonic()

    def on_message_begin(self) -> None:
        self._url, self._body, self._id = b"", b"", b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self._id = value

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        path = self._url.partition(b"?")[0]
        if path == b"/v1/chat/completions":
            self._chat(orjson.loads(self._body))
        else:
            self._transport.write(self._other(path))

    def _chat(self, body: dict[str, Any]) -> None:
        self._id = self._id or uuid.uuid4().hex.encode()
        count, served = body.get("max_tokens") or body.get("max_completion_tokens") or WORDS, body["model"]
        if not body.get("stream"):
            self._transport.write(whole_answer(self._id.decode(), served, count))
            return
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        each, whole = frames(served, count, usage, bool(body.get("return_token_ids")), len(self._id))
        if self._state.how == "one":
            self._transport.write(whole.replace(b"@" * len(self._id), self._id))
        elif self._state.how == "burst":
            self._burst([STREAM_HEAD, *each[:-1], each[-1] + END])
        else:
            self._queue = [*each, END][::-1]
            self._transport.write(STREAM_HEAD)
            self._begin()

    def _burst(self, parts: Sequence[bytes]) -> None:
        """Past the loop, which would join them; with it again once the socket is full."""
        out = self._transport.get_extra_info("socket").fileno()
        full = False
        for part in parts:
            data = part.replace(b"@" * len(self._id), self._id)
            if not full:
                with contextlib.suppress(BlockingIOError):
                    data = data[os.write(out, data) :]
                full = bool(data)
            if full:
                self._transport.write(data)

    def _begin(self) -> None:
        loop, state = asyncio.get_running_loop(), self._state
        if state.how == "paced":
            self._period = 1 / state.per_second
            self._next = loop.time() + random.random() * self._period  # streams are out of step
            self._timer = loop.call_at(self._next, self._step)
        else:
            self._period = 0.0
            self._timer = loop.call_soon(self._step)

    def _step(self) -> None:
        """The next event; the last takes the end along, as vLLM's server mostly does."""
        frame = self._queue.pop().replace(b"@" * len(self._id), self._id)
        if len(self._queue) == 1:
            self._timer = None
            self._transport.write(frame + self._queue.pop())
            return
        self._transport.write(frame)
        self._next += self._period
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._next, self._step) if self._period else loop.call_soon(self._step)

    def _other(self, path: bytes) -> bytes:
        state = self._state
        if path == b"/v1/models":
            names = ["base", *state.adapters]
            return json_answer(
                {"object": "list", "data": [{"id": name, "object": "model"} for name in names]}
            )
        if path == b"/health":
            return b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: 0\r\n\r\n"
        if path == b"/pace":
            told = orjson.loads(self._body)
            state.how, state.per_second = told["how"], told["per_second"]
            return json_answer(told)
        if path == b"/left":
            return json_answer(state.left)
        if path == b"/v1/load_lora_adapter":
            asked = orjson.loads(self._body)
            state.adapters[asked["lora_name"]] = asked["lora_path"]
            return json_answer("loaded")
        return json_answer({"error": {"message": "Not Found", "type": "NotFoundError"}}, b"404 Not Found")


async def serve(port: int) -> None:
    """Listen for ever."""
    state = State()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(state), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
