"""A gateway on a real port, in the test's own event loop."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

from serve.__main__ import WIRE
from serve.app import create_app
from serve.gateway import Gateway, Stores
from serve.settings import GatewaySettings


@dataclass
class Running:
    """Where it is, what it holds, and a client."""

    url: str
    gateway: Gateway
    http: aiohttp.ClientSession

    async def chat(
        self, headers: dict[str, str] | None = None, **body: Any
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Status, JSON and headers of one chat."""
        body = {"model": "heed", "messages": [{"role": "user", "content": "hi"}], **body}
        async with self.http.post(f"{self.url}/v1/chat/completions", json=body, headers=headers) as answer:
            return answer.status, await answer.json(), answer.headers

    async def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and JSON of any call."""
        async with self.http.request(method, self.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()


async def until(ready: Callable[[], Any], seconds: float = 30.0) -> None:
    """Wait until ``ready()`` is true."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def running(
    data_dir: Path, *, engines: list[str], redis_url: str, stores: Stores | None = None, **settings: Any
) -> AsyncIterator[Running]:
    """A whole gateway under uvicorn, stopped at the end."""
    made = GatewaySettings(
        data_dir=data_dir,
        redis_url=redis_url,
        engine_urls=",".join(engines),
        **{"engine_health_seconds": 0.05, "watch_seconds": 0.02, **settings},
    )
    app = create_app(made, stores)
    listener = socket.socket(proto=socket.IPPROTO_TCP)  # without it asyncio leaves Nagle on: 40 ms an answer
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", lifespan="on", **WIRE)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await until(lambda: server.started or task.done())
    try:
        async with aiohttp.ClientSession() as http:
            yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", app.state.gateway, http)
    finally:
        server.should_exit = True
        await task
        listener.close()
