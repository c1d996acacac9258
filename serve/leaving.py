"""Notices that a client has left, so that nothing is generated for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from serve.errors import ClientLeft

T = TypeVar("T")


async def until_left(receive: Receive) -> None:
    """Returns when the client is gone. The request's body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def unless_left(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; when the client leaves first, the work is cancelled and ClientLeft raised."""
    doing = asyncio.ensure_future(work)
    left = asyncio.ensure_future(until_left(receive))
    try:
        await asyncio.wait({doing, left}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientLeft("the client has left")
        return doing.result()
    finally:
        left.cancel()
        if not doing.done():
            doing.cancel()
            await asyncio.wait({doing})
