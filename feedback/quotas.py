"""Token buckets that all gateways share, on a Redis-protocol server: one script settles many of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from feedback import keys
from feedback.protocols import Settled, Use
from feedback.store import translated

GATEWAY_SECONDS = 3.0  # how long the chats of a gateway that tells no more are counted

_SETTLE = (Path(__file__).parent / "quotas.lua").read_text()


class RedisQuotas:
    """See ``protocols.Quotas``."""

    def __init__(self, client: redis.Redis) -> None:
        self._settle: Any = client.register_script(_SETTLE)

    def settle(self, gateway: str, in_flight: int, uses: Sequence[Use]) -> Settled:
        names = [keys.GATEWAYS, *(keys.bucket(use.bucket) for use in uses)]
        told: list[str | int | float] = [gateway, in_flight, int(GATEWAY_SECONDS * 1000)]
        for use in uses:
            told += (use.rate, use.burst, use.used)
        with translated():
            elsewhere, *levels = self._settle(keys=names, args=told)
        return Settled(tuple(map(float, levels)), int(elsewhere))
