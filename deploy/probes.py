"""Small questions whose answer is yes or no: does the server answer, does the store answer."""

from __future__ import annotations

import http.client
import urllib.request

import redis


def http_ok(url: str, seconds: float = 5.0) -> bool:
    """Whether a GET of ``url`` answers 200 within ``seconds``."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as reply:  # noqa: S310
            return bool(reply.status == 200)
    except (OSError, ValueError, http.client.HTTPException):
        return False


def store_ok(url: str, seconds: float = 2.0) -> bool:
    """Whether the store at ``url`` answers PING within ``seconds``."""
    try:
        with redis.Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
