"""Whether what was appended is on the server's disk when it answers, and waiting for it where it is not.

A server that runs ``appendfsync always`` answers after the fsync. With ``everysec`` ``WAITAOF`` is asked in the same
round trip: an answer takes up to a second, and is as good. Of a server that does not tell it is asked as well, and
believed. Where nothing can be promised, as without a journal, that is told once, and ``heed doctor`` tells it too.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import redis

from feedback.errors import StoreUnavailable
from feedback.store import durability

logger = logging.getLogger(__name__)
WAIT_MILLISECONDS = 1500  # under the socket's time-out
RECHECK_SECONDS = 60.0  # settings change while servers run, and other servers take over


class Flushed:
    """Knows for one client what its server does."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._waits = self._strict = (
            False  # strict: it is known to have a journal that is flushed every second
        )
        self._until = 0.0  # monotonic; what is known holds so long
        self._told = False

    def add_wait(self, pipe: Any) -> bool:
        """Have the pipeline wait for the disk where its server does not by itself; whether it does. Raises
        redis.RedisError and StoreUnavailable.
        """
        if time.monotonic() >= self._until:
            found = durability(self._client)
            self._strict = found.appendfsync == "everysec" and found.appendonly == "yes"
            self._waits = self._strict or found.appendfsync is None
            self._until = time.monotonic() + RECHECK_SECONDS
            if "no" in {found.appendonly, found.appendfsync}:
                self._warn("appendonly or appendfsync is no")
        if self._waits:
            pipe.execute_command("WAITAOF", 1, 0, WAIT_MILLISECONDS)
        return self._waits

    def check(self, reply: Any) -> None:
        """What WAITAOF answered. Raises StoreUnavailable when the disk has not confirmed in time."""
        if isinstance(reply, redis.ResponseError):  # an old server, or one without a journal
            self._waits = False
            self._warn(str(reply))
        elif isinstance(reply, Exception):
            raise reply
        elif int(reply[0]) < 1 and self._strict:
            raise StoreUnavailable("the store's disk did not confirm in time")
        elif int(reply[0]) < 1:  # it may never do, and who would wait for that?
            self._warn("WAITAOF is not answered in time")

    def _warn(self, why: str) -> None:
        if not self._told:
            logger.warning("the store does not promise that votes are on its disk: %s", why)
        self._told = True
