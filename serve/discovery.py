"""Engines by name: a host name with several addresses is as many engines, and they come and go with the name.

A name with one address stays what it is: it is looked up anew for each connection. An address that is gone from the
name gets no new chats and leaves the pool when its last one is over. While names cannot be looked up, nothing changes.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias
from urllib.parse import urlsplit

from feedback.addresses import is_address, of_one_family
from serve.engines import Engine, Pool

logger = logging.getLogger(__name__)
Resolve: TypeAlias = Callable[[str], Awaitable[list[str]]]
Make: TypeAlias = Callable[[str, str, str | None], Engine]  # name, URL, address


async def addresses_of(host: str) -> list[str]:
    """The addresses of a host, sorted, of one family. Empty when they cannot be looked up, or when the host is an
    address itself.
    """
    if is_address(host):
        return []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        logger.warning("the engine host %s cannot be looked up: %s", host, error)
        return []
    return of_one_family(found)


class Discovery:
    """Keeps the pool as the names say. ``urls`` is engine name → URL; ``make`` builds an engine."""

    def __init__(
        self, pool: Pool, urls: Mapping[str, str], make: Make, resolve: Resolve = addresses_of
    ) -> None:
        self._pool, self._urls, self._make, self._resolve = pool, urls, make, resolve

    async def refresh(self) -> None:
        """Look every name up once."""
        for name, url in self._urls.items():
            addresses = await self._resolve(urlsplit(url).hostname or "")
            if addresses:
                self._settle(name, url, addresses)
        for engine in [one for one in self._pool.engines if one.leaving and not one.load]:
            logger.info("%s leaves the pool", engine.name)
            self._pool.remove(engine)

    async def watch(self, seconds: float) -> None:
        """Refresh for ever."""
        while True:
            await self.refresh()
            await asyncio.sleep(seconds)

    def _settle(self, name: str, url: str, addresses: list[str]) -> None:
        wanted: dict[str, str | None] = {name: None}
        if len(addresses) > 1:
            wanted = {f"{name}@{address}": address for address in addresses}
        known = {one.name: one for one in self._pool.engines if one.name.partition("@")[0] == name}
        for one, address in wanted.items():
            if one in known:
                known[one].leaving = False
            else:
                logger.info("%s joins the pool", one)
                self._pool.add(self._make(one, url, address))
        for gone in known.keys() - wanted.keys():
            known[gone].leaving = True
