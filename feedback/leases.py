"""Leases with fencing tokens: one holder at a time, and a token that lets late writers be refused."""

from __future__ import annotations

from typing import Any

import redis

from feedback import keys
from feedback.errors import LeaseLost
from feedback.store import translated

_ACQUIRE = """
local held = redis.call('HMGET', KEYS[1], 'holder', 'token')
if held[1] and held[1] ~= ARGV[1] then return false end
local token = held[2]
if not held[1] then
  token = redis.call('INCR', KEYS[2])
  redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'token', token)
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return tonumber(token)
"""
_RELEASE = """
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class Leases:
    """The lease part of the registry."""

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client  # redis-py's stubs offer str and bytes for every answer; ours are bytes
        self._acquire = client.register_script(_ACQUIRE)
        self._release = client.register_script(_RELEASE)

    def acquire(self, lease: str, holder: str, seconds: float) -> int | None:
        with translated():
            token = self._acquire(
                keys=[keys.lease(lease), keys.fence(lease)], args=[holder, int(seconds * 1000)]
            )
        return None if token is None else int(token)

    def check(self, lease: str, token: int) -> None:
        with translated():
            held = self._client.hget(keys.lease(lease), "token")
        check_token(lease, token, held)

    def held(self, lease: str) -> bool:
        with translated():
            return bool(self._client.exists(keys.lease(lease)))

    def release(self, lease: str, holder: str) -> None:
        with translated():
            self._release(keys=[keys.lease(lease)], args=[holder])


def check_token(lease: str, token: int, held: bytes | int | None) -> None:
    """Raises LeaseLost unless ``token`` is the one that is ``held``; None: the lease has run out."""
    if held is None or int(held) != token:
        raise LeaseLost(f"lease {lease}: token {token} is no longer the newest")
