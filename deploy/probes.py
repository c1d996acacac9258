"""Small questions whose answer is yes or no: does the server answer, does the store answer."""

from __future__ import annotations

import http.client
import json
import time
import urllib.request

import redis

from feedback import keys


def http_ok(url: str, seconds: float = 5.0) -> bool:
    """Whether a GET of ``url`` answers 200 within ``seconds``."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as reply:  # noqa: S310
            return bool(reply.status == 200)
    except (OSError, ValueError, http.client.HTTPException):
        return False


def ticked(url: str, task: str, within_seconds: float) -> bool:
    """Whether the workers finished the schedule's ``task`` within the last ``within_seconds``.

    This watches progress and not processes: a worker can be alive and silent.
    """
    try:
        with redis.Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=2.0) as client:
            beat = client.hget(keys.loop("_workers"), task)
        return time.time() - float(json.loads(beat)["last_success"]) < within_seconds if beat else False
    except (redis.RedisError, ValueError, KeyError, TypeError):
        return False


def store_ok(url: str, seconds: float = 2.0) -> bool:
    """Whether the store at ``url`` answers PING within ``seconds``."""
    try:
        with redis.Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds) as client:
            return bool(client.ping())
    except (redis.RedisError, ValueError):  # ValueError: not the address of a Redis
        return False
