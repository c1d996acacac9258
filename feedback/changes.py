"""Hears of each change of the registry as it happens, on the channel that ``registry`` announces it on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import redis.asyncio

from feedback import keys
from feedback.store import translated

LOOK_SECONDS = 5.0  # an idle connection is asked this often whether it still lives


async def changes(url: str) -> AsyncIterator[None]:
    """One item at the start, since a change may have been missed until then, and one for each change from there
    on, for ever. Raises StoreUnavailable when the connection fails: begin anew. A message may be lost with a
    connection, so whoever listens also looks from time to time.
    """
    client = redis.asyncio.Redis.from_url(
        url, socket_connect_timeout=2.0, socket_timeout=2.0, health_check_interval=LOOK_SECONDS
    )
    async with client, client.pubsub(ignore_subscribe_messages=True) as heard:
        with translated():
            await heard.subscribe(keys.CHANGES)
            await heard.get_message(timeout=1.0)  # the subscription itself
        yield
        while True:
            with translated():
                message = await heard.get_message(timeout=LOOK_SECONDS)
            if message is not None:
                yield
