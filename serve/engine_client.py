"""One vLLM server, spoken to over HTTP. The only place that knows vLLM's routes and failures."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from serve.connections import Connections
from serve.errors import EngineGarbled, EngineRefused, EngineUnreachable
from serve.exchange import Exchange
from serve.pulse import Counts

OUR_FIELDS = {"input_tokens": "messages", "prompt": "messages"}  # where an engine blames what no client sent
BROKEN = (aiohttp.ClientError, asyncio.TimeoutError, OSError)  # how a connection fails
CONTROL = aiohttp.ClientTimeout(total=5.0)
PROBES_AT_ONCE = 12  # tokens asked about at once: each is a short prompt, and many share a step
REFUSAL_BYTES = 64 * 1024
COUNTS = (  # of vLLM's metrics: what moves while its core works
    b"vllm:generation_tokens_total",
    b"vllm:prompt_tokens_total",
    b"vllm:kv_cache_usage_perc",
    b"vllm:num_requests_running",
    b"vllm:num_requests_waiting",
)
LOADING = aiohttp.ClientTimeout(total=60.0)  # loading pauses decoding, and a probe queues behind chats


class EngineClient:
    """The calls the gateway makes to an engine; headers are built fresh for each."""

    def __init__(
        self,
        url: str,
        key: str,
        session: aiohttp.ClientSession,
        *,
        connect_seconds: float,
        silence_seconds: float,
        address: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        self.url = url
        self._session = session
        self._probing = asyncio.Semaphore(PROBES_AT_ONCE)
        self._headers = {"host": parts.netloc, **({"authorization": f"Bearer {key}"} if key else {})}
        self._path = parts.path
        # One of the several addresses of a name: asked by address, known by name.
        netloc = f"[{address}]" if address and ":" in address else address
        port = f":{parts.port}" if parts.port else ""
        self._at = f"{parts.scheme}://{netloc}{port}{parts.path}" if address else url
        self._server = parts.hostname if address and parts.scheme == "https" else None
        headers = {"content-type": "application/json", **self._headers}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
        self._connections = Connections(
            url, connect_seconds=connect_seconds, silence_seconds=silence_seconds, address=address
        )

    def break_silent(self, seconds: float) -> int:
        """Break off chats in which the engine said nothing for so long; returns how many."""
        return self._connections.break_silent(seconds)

    def silence(self) -> float:
        """Seconds for which no chat has heard anything; 0 when none waits."""
        return self._connections.silence()

    def close(self) -> None:
        """Close the connections that are kept for chats."""
        self._connections.close()

    async def healthy(self) -> None:
        """Raises EngineError when it does not say so."""
        await self._call("GET", "/health", CONTROL)

    async def models(self) -> dict[str, dict[str, Any]]:
        """Name → card of everything the engine answers to; proves that it is healthy first."""
        await self.healthy()
        body = await self._json("GET", "/v1/models", CONTROL)
        try:
            return {card["id"]: card for card in body["data"]}
        except (KeyError, TypeError) as error:
            raise EngineGarbled("the engine's list of models does not parse") from error

    async def counts(self) -> Counts:
        """What tells of work under way, in the engine's own words; nothing when it keeps no statistics."""
        lines = (await self._call("GET", "/metrics", CONTROL)).splitlines()
        return tuple(line.decode(errors="replace") for line in lines if line.startswith(COUNTS))

    async def answers(self, served: str) -> None:
        """Have the core make one token. Raises EngineError when it does not within CONTROL's time."""
        body = {"model": served, "prompt": [1], "max_tokens": 1}
        await self._call("POST", "/v1/completions", CONTROL, body)

    async def load(self, adapter: str, folder: str) -> None:
        """Load an adapter under its own name; names are never used again, so nothing is ever replaced."""
        await self._call(
            "POST", "/v1/load_lora_adapter", LOADING, {"lora_name": adapter, "lora_path": folder}
        )

    async def unload(self, adapter: str) -> None:
        """Make the engine forget the name; running requests finish, the weights stay until evicted."""
        await self._call("POST", "/v1/unload_lora_adapter", CONTROL, {"lora_name": adapter})

    async def log_probabilities(
        self, served: str, prompt: Sequence[int], completion: Sequence[int]
    ) -> list[float]:
        """Natural log-probability of each completion token after the prompt, at temperature 1.

        Each token is asked about by itself. All at once, by ``prompt_logprobs``, kills vLLM's engine on a CPU when a
        chat runs beside it: its LoRA code takes the prompt's states for those of the tokens to draw.
        """

        async def one(place: int) -> float:
            asked = {
                "model": served,
                "prompt": [*prompt, *completion[:place]],
                "max_tokens": 1,
                "temperature": 1.0,  # whose processed log-probabilities are the raw ones
                "logprobs": 1,
                "logprob_token_ids": [completion[place]],
                "return_tokens_as_token_ids": True,
            }
            async with self._probing:
                body = await self._json("POST", "/v1/completions", LOADING, asked)
            told = body["choices"][0]["logprobs"]["top_logprobs"][0]
            return float(told[f"token_id:{completion[place]}"])

        try:
            return list(await asyncio.gather(*(one(place) for place in range(len(completion)))))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise EngineGarbled(
                "the engine's logprobs do not parse: it must know logprob_token_ids, as vLLM 0.32 does"
            ) from error

    async def tokenize(self, served: str, text: str) -> list[int]:
        """The text's token ids."""
        body = await self._json("POST", "/tokenize", CONTROL, {"model": served, "prompt": text})
        try:
            return [int(token) for token in body["tokens"]]
        except (KeyError, TypeError, ValueError) as error:
            raise EngineGarbled("the engine's tokens do not parse") from error

    async def detokenize(self, served: str, tokens: Sequence[int]) -> str:
        """The text of token ids."""
        body = await self._json("POST", "/detokenize", CONTROL, {"model": served, "tokens": list(tokens)})
        if not isinstance(body, dict) or not isinstance(body.get("prompt"), str):
            raise EngineGarbled("the engine's text of tokens does not parse")
        return str(body["prompt"])

    async def open_chat(self, body: bytes, request_id: str, taken: Callable[[Exchange], None]) -> Exchange:
        """Ask for a chat; returns when the engine's headers are there and its status is 200. ``taken`` is handed
        the exchange as soon as there is one. Raises EngineUnreachable or EngineRefused.
        """
        return await self._open("/v1/chat/completions", body, request_id, taken)

    async def open_completion(
        self, body: bytes, request_id: str, taken: Callable[[Exchange], None]
    ) -> Exchange:
        """Ask for what follows given tokens; else as ``open_chat``."""
        return await self._open("/v1/completions", body, request_id, taken)

    async def _open(
        self, path: str, body: bytes, request_id: str, taken: Callable[[Exchange], None]
    ) -> Exchange:
        head = b"POST %b HTTP/1.1\r\n%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (
            (self._path + path).encode(), self._head, request_id.encode(), len(body),
        )  # fmt: skip
        exchange = await self._connections.ask(head + body, taken)
        if exchange.status != 200:
            raise await _refused(exchange)
        return exchange

    async def _call(
        self, method: str, path: str, within: aiohttp.ClientTimeout, body: dict[str, Any] | None = None
    ) -> bytes:
        data = None if body is None else orjson.dumps(body)
        headers = self._headers if data is None else {**self._headers, "content-type": "application/json"}
        try:
            async with self._session.request(
                method,
                self._at + path,
                data=data,
                headers=headers,
                timeout=within,
                server_hostname=self._server,
            ) as answer:
                if answer.status != 200:
                    raise await _refusal(answer)
                return await answer.read()
        except BROKEN as error:
            raise EngineUnreachable("the engine could not be reached") from error

    async def _json(
        self, method: str, path: str, within: aiohttp.ClientTimeout, body: dict[str, Any] | None = None
    ) -> Any:
        data = await self._call(method, path, within, body)
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise EngineGarbled("the engine's answer is not JSON") from error


async def _refusal(answer: aiohttp.ClientResponse) -> EngineRefused:
    """Read the engine's own message, at most 64 KiB of it."""
    try:
        data = await answer.content.read(REFUSAL_BYTES)
    except BROKEN:
        data = b""
    finally:
        answer.close()
    return _told(answer.status, data)


async def _refused(exchange: Exchange) -> EngineRefused:
    """The same for a chat."""
    data = b""
    with contextlib.suppress(EngineUnreachable):
        while len(data) < REFUSAL_BYTES and (more := await exchange.read()):
            data += more
    exchange.close()
    return _told(exchange.status, data)


def _told(status: int, data: bytes) -> EngineRefused:
    try:
        error = orjson.loads(data)["error"]
        message, param = str(error["message"]), error.get("param")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        message, param = f"the engine answered {status}", None
    field = OUR_FIELDS.get(param, param.removeprefix("body.")) if isinstance(param, str) else None
    return EngineRefused(status, message, field)
