"""One way to connect to the store, and the one place that translates its failures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from feedback.errors import StoreUnavailable

_PASSING = frozenset({"BUSY", "MISCONF", "NOREPLICAS"})
_CODE = re.compile(r"[A-Z]{1,32}")


def connect(url: str, timeout_seconds: float = 2.0) -> redis.Redis:
    """A client with short time-outs; values come back as bytes. Connects at the first call. A connection that broke,
    as of a server that was started anew, is tried once more; one that is silent is not.

    A command whose answer was lost may run twice: every write of Heed is safe to repeat.
    """
    return redis.Redis.from_url(
        url,
        decode_responses=False,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(ExponentialBackoff(base=0.01, cap=0.1), 1, (redis.ConnectionError,)),
        health_check_interval=10,
    )


def refusal(reply: object) -> str | None:
    """The code of an error that is of one command alone (``ERR``, ``WRONGTYPE``); None of an answer, and of an error
    that is of the server and passes. redis-py has classes of their own for most of the latter.
    """
    if type(reply) is not redis.ResponseError:
        return None
    code = getattr(reply, "status_code", None) or str(reply).split(" ", 1)[0]
    return None if code in _PASSING else code if _CODE.fullmatch(code) else "ERR"


@contextmanager
def translated() -> Iterator[None]:
    """Turn every failure of the server or the wire into StoreUnavailable."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        said = str(error).split(" ", 1)[0] if isinstance(error, redis.ResponseError) else ""
        raise StoreUnavailable(f"the store did not do it: {type(error).__name__} {said}".strip()) from error


@dataclass(frozen=True, slots=True)
class Durability:
    """What the server says of its persistence; None: it does not tell (managed services forbid CONFIG)."""

    appendonly: str | None
    appendfsync: str | None
    maxmemory_policy: str | None

    @property
    def durable(self) -> bool | None:
        """Whether an acknowledged event is on disk and is never evicted; None: unknown."""
        if None in (self.appendonly, self.appendfsync, self.maxmemory_policy):
            return None
        return (self.appendonly, self.appendfsync, self.maxmemory_policy) == ("yes", "always", "noeviction")


def durability(client: redis.Redis) -> Durability:
    """Read the three settings on which the promise hangs. Raises StoreUnavailable when nobody answers."""
    found = {}
    for name in ("appendonly", "appendfsync", "maxmemory-policy"):
        with translated():
            try:
                value = client.config_get(name).get(name)
            except redis.ResponseError:  # NOPERM or an unknown command
                value = None
        found[name.replace("-", "_")] = value.decode() if isinstance(value, bytes) else value
    return Durability(**found)
