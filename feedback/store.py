"""One way to connect to the store, and the one place that translates its failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from feedback.errors import StoreUnavailable


def connect(url: str, timeout_seconds: float = 2.0) -> redis.Redis:
    """A client with short time-outs; values come back as bytes. Connects at the first call."""
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(ExponentialBackoff(base=0.01, cap=0.1), 1),
        health_check_interval=10,
    )


@contextmanager
def translated() -> Iterator[None]:
    """Turn every failure of the server or the wire into StoreUnavailable."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, redis.ResponseError, OSError) as error:
        raise StoreUnavailable(f"the store did not do it: {type(error).__name__}") from error
