"""A tiny engine that speaks vLLM's HTTP: for faults the real one cannot be made to have, and for speed.

Each model answers ``hello from <model>`` word by word, so that a test can tell who answered.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

PROMPT_TOKENS = [7, 7, 7]  # of every prompt


class FakeEngine:
    """State and faults of one fake."""

    def __init__(self) -> None:
        self.url = ""
        self.healthy = True
        self.hangs = False  # it takes requests and answers nothing
        self.frozen = False  # its core hangs, and its front end does not know
        self.tokens = 0  # made, by its own count
        self.adapters: dict[str, str] = {}
        self.seen: list[str] = []  # every request's method and target, health checks left out
        self.bodies: list[dict[str, Any]] = []  # of chats, as they came in
        self.headers: list[dict[str, str]] = []
        self.loads: list[str] = []
        self.refuse: tuple[int, str] | None = None  # status and message for every chat
        self.break_before_first = False
        self.break_after_chunks: int | None = None
        self.wait_before_first = 0.0  # seconds
        self.pause = 0.0  # seconds between chunks
        self.holds_after: int | None = (
            None  # events, after which a chat waits until this is None; 0: before its head
        )
        self.cut = 0  # bytes per write; 0: an event each
        self.aborted = 0  # chats whose client left before the end
        self.log_probability: dict[str, float] = {}  # model → what every token has; default -1
        self.load_status = 200
        self.wait_to_load = 0.0  # seconds
        self.error_after_chunks: int | None = None  # an error event, as vLLM writes when its core dies
        self.says: list[str] | None = None  # other words
        self.asked_to_go_on: list[dict[str, Any]] = []  # bodies of completions that continue a reply

    def words(self, model: str) -> list[str]:
        if self.says is not None:
            return self.says
        return ["hello ", "from ", model if model == "base" else "an adapter", "!"]

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if self.refuse:
            return _error(*self.refuse)
        model = body["model"]
        if model != "base" and model not in self.adapters:
            return _error(404, f"The model `{model}` does not exist.")
        if self.break_before_first:
            request.transport.abort()  # type: ignore[union-attr]
            return web.Response()
        try:
            await asyncio.sleep(self.wait_before_first)
            await self._held(0)
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        response_id = "chatcmpl-" + request.headers["X-Request-Id"]
        if not body.get("stream"):
            message = {"role": "assistant", "content": "".join(self.words(model))}
            return web.json_response(
                {
                    "id": response_id,
                    "object": "chat.completion",
                    "created": 1,
                    "model": model,
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
                    "usage": {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9},
                    "prompt_logprobs": None,
                }
            )
        return await self._stream(request, response_id, model, body)

    async def _held(self, events: int) -> None:
        """Wait while a chat of which so many events are told is to be held. Any thread may let it go."""
        while self.holds_after is not None and events >= self.holds_after:  # noqa: ASYNC110 - of any thread
            await asyncio.sleep(0.01)

    async def _stream(
        self, request: web.Request, response_id: str, model: str, body: dict[str, Any]
    ) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        try:
            for number, event in enumerate(self._events(response_id, model, body)):
                if number:
                    await self._held(number)
                if (self.hangs or self.frozen) and number > 1:
                    await asyncio.sleep(60)
                self.tokens += 1
                if number == self.error_after_chunks:
                    died = b'data: {"error": {"message": "EngineCore died", "code": 500}}\n\n'
                    await answer.write(died + b"data: [DONE]\n\n")  # vLLM says so after an error too
                    break
                if self.break_after_chunks is not None and number >= self.break_after_chunks:
                    request.transport.abort()  # type: ignore[union-attr]
                    return answer
                step = self.cut or len(event)
                for start in range(0, len(event), step):
                    await answer.write(event[start : start + step])
                await asyncio.sleep(self.pause)
            await answer.write_eof()
        except (ConnectionResetError, asyncio.CancelledError):
            self.aborted += 1
            raise
        return answer

    def _events(self, response_id: str, model: str, body: dict[str, Any]) -> list[bytes]:
        def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
            chunk = {
                "id": response_id,
                "object": "chat.completion.chunk",
                "created": 1,
                "model": model,
                "choices": choices,
                **more,
            }
            return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"

        words, told = self.words(model), bool(body.get("return_token_ids"))
        first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        events = [event([first], **({"prompt_token_ids": PROMPT_TOKENS} if told else {}))]
        for token, word in enumerate(words):
            ids = {"token_ids": [token] if told else None}
            events.append(event([{"index": 0, "delta": {"content": word}, "finish_reason": None, **ids}]))
        events.append(event([{"index": 0, "delta": {"content": ""}, "finish_reason": "stop"}]))
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
            events.append(event([], usage=usage, system_fingerprint="vllm-x"))
        return [*events, b"data: [DONE]\n\n"]

    async def models(self, _: web.Request) -> web.Response:
        cards = [{"id": "base", "root": "/base"}]
        cards += [{"id": name, "root": path, "parent": "base"} for name, path in self.adapters.items()]
        return web.json_response({"object": "list", "data": cards})

    async def health(self, _: web.Request) -> web.Response:
        if self.hangs:
            await asyncio.sleep(60)
        return web.Response(status=200 if self.healthy else 503)

    async def metrics(self, _: web.Request) -> web.Response:
        told = f'vllm:generation_tokens_total{{model_name="base"}} {self.tokens}.0'
        return web.Response(text=f"# TYPE\nprocess_cpu_seconds_total {time.monotonic()}\n{told}\n")

    async def load(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.loads.append(body["lora_name"])
        await asyncio.sleep(self.wait_to_load)
        if self.load_status != 200:
            return _error(self.load_status, "cannot load")
        if body["lora_name"] in self.adapters:
            return _error(400, "has already been loaded")
        self.adapters[body["lora_name"]] = body["lora_path"]
        return web.Response(text="ok")

    async def unload(self, request: web.Request) -> web.Response:
        self.adapters.pop((await request.json())["lora_name"], None)
        return web.Response(text="ok")

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body.get("stream"):
            return await self._go_on(request, body)
        if self.frozen:
            await asyncio.sleep(60)
        if "logprob_token_ids" not in body:
            return web.json_response({"choices": [{"text": ""}]})
        value = self.log_probability.get(body["model"], -1.0)
        told = {f"token_id:{token}": value for token in body["logprob_token_ids"]}
        return web.json_response({"choices": [{"logprobs": {"top_logprobs": [told]}, "text": ""}]})

    async def _go_on(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        """The words after the tokens in the prompt: each word of a reply is a token, numbered from 0."""
        self.asked_to_go_on.append(body)
        said = len(body["prompt"]) - len(PROMPT_TOKENS)
        words = self.words(body["model"])[said:]
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        for number, word in enumerate(words):
            if self.break_after_chunks is not None and number >= self.break_after_chunks:
                request.transport.abort()  # type: ignore[union-attr]
                return answer
            end = "stop" if number == len(words) - 1 else None
            choice = {"index": 0, "text": word, "finish_reason": end, "token_ids": [said + number]}
            await answer.write(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n")
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": len(words)}
        await answer.write(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
        await answer.write(b"data: [DONE]\n\n")
        return answer

    async def detokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        words = self.words(body["model"])
        return web.json_response({"prompt": "".join(words[token] for token in body["tokens"])})

    async def tokenize(self, request: web.Request) -> web.Response:
        text = (await request.json())["prompt"]
        return web.json_response({"tokens": list(text.encode())})


def _error(status: int, message: str) -> web.Response:
    return web.json_response(
        {"error": {"message": message, "type": "x", "param": None, "code": status}}, status=status
    )


@asynccontextmanager
async def fake_engine(fake: FakeEngine | None = None) -> AsyncIterator[FakeEngine]:
    """A fake engine on a free port."""
    fake = fake or FakeEngine()

    @web.middleware
    async def seeing(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in {"/health", "/v1/models", "/metrics"}:
            fake.seen.append(f"{request.method} {request.raw_path}")
        return await handler(request)

    app = web.Application(middlewares=[seeing])
    app.add_routes(
        [
            web.post("/v1/chat/completions", fake.chat),
            web.get("/v1/models", fake.models),
            web.get("/health", fake.health),
            web.get("/metrics", fake.metrics),
            web.post("/v1/load_lora_adapter", fake.load),
            web.post("/v1/unload_lora_adapter", fake.unload),
            web.post("/v1/completions", fake.completions),
            web.post("/tokenize", fake.tokenize),
            web.post("/detokenize", fake.detokenize),
        ]
    )
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()


@contextmanager
def fake_engine_aside() -> Iterator[FakeEngine]:
    """A fake engine with an event loop of its own, so that many tests may share it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    made = fake_engine()
    try:
        yield asyncio.run_coroutine_threadsafe(made.__aenter__(), loop).result(60)
    finally:
        asyncio.run_coroutine_threadsafe(made.__aexit__(None, None, None), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
