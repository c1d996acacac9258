"""One simulated user's calls to the public HTTP API, and nothing else of Heed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

Messages = Sequence[Mapping[str, str]]


class CallFailed(Exception):
    """A request that did not end as the contract says: the status (0: no answer) and what was said."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"{status} {said}"[:300])
        self.status = status


@dataclass(frozen=True)
class Reply:
    """A streamed chat answer."""

    response_id: str
    text: str
    time_to_first_token: float  # seconds from the request to the first text


@dataclass(frozen=True)
class Blind:
    """Two answers side by side."""

    comparison_id: str
    texts: tuple[str, str]
    response_ids: tuple[str, str]


@dataclass(frozen=True)
class Visitor:
    """A user with an identifier of their own."""

    session: aiohttp.ClientSession
    url: str
    user: str
    model: str = "heed"
    max_tokens: int = 96

    async def chat(self, messages: Messages, *, model: str | None = None, store: bool = True) -> Reply:
        """A streamed chat at temperature 1. Raises CallFailed."""
        body = self._body(messages, model or self.model) | {"stream": True, "store": store}
        began, first, response_id, pieces = time.perf_counter(), 0.0, "", []
        try:
            async with self._send("/v1/chat/completions", body) as reply:
                if reply.status != 200:
                    raise CallFailed(reply.status, await reply.text())
                async for line in reply.content:
                    if not line.startswith(b"data: {"):
                        continue
                    event = orjson.loads(line[6:])
                    response_id = event.get("id") or response_id
                    piece = _delta(event)
                    if piece and not first:
                        first = time.perf_counter() - began
                    pieces.append(piece)
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            raise CallFailed(0, repr(error)) from error
        if not response_id or not pieces:
            raise CallFailed(200, "the stream ended without an answer")
        return Reply(response_id, "".join(pieces), first)

    async def compare(self, messages: Messages) -> Blind:
        """Two blind answers to one prompt. Raises CallFailed."""
        found = await self._post("/v1/chat/comparisons", self._body(messages, self.model))
        first, second = sorted(found["choices"], key=lambda choice: int(choice["index"]))
        return Blind(
            found["id"],
            (str(first["message"]["content"] or ""), str(second["message"]["content"] or "")),
            (first["response_id"], second["response_id"]),
        )

    async def thumb(self, response_id: str, rating: str) -> dict[str, Any]:
        """Vote on a response; what the gateway acknowledged. Raises CallFailed."""
        return await self._post("/v1/feedback", {"response_id": response_id, "rating": rating})

    async def prefer(self, comparison_id: str, preferred: int | str) -> dict[str, Any]:
        """Say which side was better. Raises CallFailed."""
        return await self._post("/v1/comparisons", {"comparison_id": comparison_id, "preferred": preferred})

    def _body(self, messages: Messages, model: str) -> dict[str, Any]:
        return {
            "model": model,
            "messages": [dict(message) for message in messages],
            "max_tokens": self.max_tokens,
            "temperature": 1.0,
        }

    def _send(self, path: str, body: Mapping[str, Any]) -> Any:
        return self.session.post(self.url + path, json=body, headers={"Heed-User": self.user})

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            async with self._send(path, body) as reply:
                said = await reply.read()
                if reply.status not in (200, 201, 202):
                    raise CallFailed(reply.status, said.decode(errors="replace"))
                found: dict[str, Any] = orjson.loads(said)
        except (aiohttp.ClientError, TimeoutError, orjson.JSONDecodeError) as error:
            raise CallFailed(0, repr(error)) from error
        return found


def _delta(event: Mapping[str, Any]) -> str:
    """The text a chunk adds."""
    choices = event.get("choices") or [{}]
    return str((choices[0].get("delta") or {}).get("content") or "")


def session(key: str = "", seconds: float = 120.0) -> aiohttp.ClientSession:
    """An HTTP session; with a key it is sent as bearer token."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return aiohttp.ClientSession(
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=seconds),
        connector=aiohttp.TCPConnector(limit=0),
    )
