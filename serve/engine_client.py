"""One vLLM server, spoken to over HTTP. The only place that knows vLLM's routes and failures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
import orjson

from serve.errors import EngineGarbled, EngineRefused, EngineUnreachable

OUR_FIELDS = {"input_tokens": "messages", "prompt": "messages"}  # where an engine blames what no client sent
BROKEN = (aiohttp.ClientError, asyncio.TimeoutError, OSError)  # how a connection fails
CONTROL = aiohttp.ClientTimeout(total=5.0)
PROBES_AT_ONCE = 4
LOADING = aiohttp.ClientTimeout(total=60.0)  # loading pauses decoding, and a probe queues behind chats


class EngineClient:
    """The calls the gateway makes to an engine; headers are built fresh for each."""

    def __init__(self, url: str, key: str, session: aiohttp.ClientSession, *, silence_seconds: float) -> None:
        self.url = url
        self._session = session
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._silence = aiohttp.ClientTimeout(total=None, sock_read=silence_seconds)

    async def models(self) -> dict[str, dict[str, Any]]:
        """Name → card of everything the engine answers to; proves that it is healthy first."""
        await self._call("GET", "/health", CONTROL)
        body = await self._json("GET", "/v1/models", CONTROL)
        try:
            return {card["id"]: card for card in body["data"]}
        except (KeyError, TypeError) as error:
            raise EngineGarbled("the engine's list of models does not parse") from error

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
        at_once = asyncio.Semaphore(PROBES_AT_ONCE)

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
            async with at_once:
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

    async def open_chat(self, body: bytes, request_id: str) -> aiohttp.ClientResponse:
        """Ask for a chat; returns when the engine's headers are there and its status is 200.

        The caller reads and closes the answer. Raises EngineUnreachable or EngineRefused.
        """
        headers = {**self._headers, "content-type": "application/json", "x-request-id": request_id}
        try:
            answer = await self._session.post(
                f"{self.url}/v1/chat/completions", data=body, headers=headers, timeout=self._silence
            )
        except BROKEN as error:
            raise EngineUnreachable("the engine could not be reached") from error
        if answer.status != 200:
            raise await _refusal(answer)
        return answer

    async def _call(
        self, method: str, path: str, within: aiohttp.ClientTimeout, body: dict[str, Any] | None = None
    ) -> bytes:
        data = None if body is None else orjson.dumps(body)
        headers = self._headers if data is None else {**self._headers, "content-type": "application/json"}
        try:
            async with self._session.request(
                method, self.url + path, data=data, headers=headers, timeout=within
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
        data = await answer.content.read(65536)
    except BROKEN:
        data = b""
    finally:
        answer.close()
    try:
        error = orjson.loads(data)["error"]
        message, param = str(error["message"]), error.get("param")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        message, param = f"the engine answered {answer.status}", None
    field = OUR_FIELDS.get(param, param.removeprefix("body.")) if isinstance(param, str) else None
    return EngineRefused(answer.status, message, field)
