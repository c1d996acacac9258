"""The least a Python gateway can do: FastAPI in front, aiohttp behind, bytes passed on as they come.

ENGINE=http://127.0.0.1:8000 python -m benchmarks.wire.passthrough PORT
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

ENGINE = os.environ.get("ENGINE", "http://127.0.0.1:8000")


@asynccontextmanager
async def session(app: FastAPI) -> AsyncIterator[None]:
    """One session of the process, with as many connections as there are chats."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as http:
        app.state.http = http
        yield


app = FastAPI(lifespan=session)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/v1/chat/completions")
async def chat(request: Request) -> StreamingResponse:
    """Ask the engine the same."""
    body, headers = await request.body(), {"content-type": "application/json"}
    answer = await request.app.state.http.post(f"{ENGINE}/v1/chat/completions", data=body, headers=headers)
    return StreamingResponse(passed_on(answer), answer.status, media_type=answer.headers["content-type"])


async def passed_on(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Whatever has arrived, until the end; the connection goes back whatever happens."""
    async with answer:
        async for data in answer.content.iter_any():
            yield data


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, backlog=4096)
