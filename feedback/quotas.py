"""What all gateways share of their limits, on a Redis-protocol server: one script settles buckets and holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis

from feedback import keys
from feedback.protocols import Hold, Settled, Use
from feedback.store import translated

GATEWAY_SECONDS = 3.0  # how long the chats of a gateway that tells no more are counted

_SETTLE = (Path(__file__).parent / "quotas.lua").read_text()


class RedisQuotas:
    """See ``protocols.Quotas``."""

    def __init__(self, client: redis.Redis) -> None:
        self._settle: Any = client.register_script(_SETTLE)

    def settle(
        self, gateway: str, in_flight: int, uses: Sequence[Use], holds: Sequence[Hold] = ()
    ) -> Settled:
        names = [keys.GATEWAYS, *(keys.bucket(use.bucket) for use in uses)]
        names += (keys.held(hold.holder) for hold in holds)
        told: list[str | int | float] = [gateway, in_flight, int(GATEWAY_SECONDS * 1000), len(uses)]
        for use in uses:
            told += (use.rate, use.burst, use.used)
        told += (hold.chats for hold in holds)
        with translated():
            elsewhere, *rest = self._settle(keys=names, args=told)
        levels, held = rest[: len(uses)], rest[len(uses) :]
        return Settled(tuple(map(float, levels)), int(elsewhere), tuple(map(int, held)))
