"""The limits by time that a key has: its own, else the settings'."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from feedback.protocols import KeyRecord
from serve.buckets import Buckets, Quota
from serve.settings import GatewaySettings

MINUTE, DAY = 60.0, 86400.0
Unit: TypeAlias = Literal["requests", "tokens"]


@dataclass(frozen=True, slots=True)
class Meter:
    """One limit of one key, counted in the bucket of that name."""

    name: str
    unit: Unit
    units: float
    seconds: float

    @property
    def quota(self) -> Quota:
        return Quota.per(self.units, self.seconds)

    @property
    def said(self) -> str:
        """As errors name it: ``600 tokens a minute``."""
        return f"{self.units:g} {self.unit} a {'minute' if self.seconds == MINUTE else 'day'}"

    @property
    def option(self) -> str:
        """What sets it when a key is made."""
        return f"--{self.unit}-per-{'minute' if self.seconds == MINUTE else 'day'}"


def meters_of(record: KeyRecord | None, settings: GatewaySettings) -> tuple[Meter, ...]:
    """All limits of the key; none without a record."""
    return () if record is None else tuple(_meters(record, settings))


def _meters(record: KeyRecord, settings: GatewaySettings) -> Iterator[Meter]:
    limits: tuple[tuple[Unit, float, float | None, float], ...] = (
        ("requests", MINUTE, record.requests_per_minute, settings.key_requests_per_minute),
        ("tokens", MINUTE, record.tokens_per_minute, settings.key_tokens_per_minute),
        ("tokens", DAY, record.tokens_per_day, settings.key_tokens_per_day),
    )
    for unit, seconds, own, general in limits:
        if units := general if own is None else own:
            yield Meter(f"{record.id}:{unit}:{seconds:.0f}", unit, units, seconds)


def headers_of(meters: Sequence[Meter], buckets: Buckets) -> Mapping[str, str]:
    """OpenAI's ``x-ratelimit-*``: the limit a minute, what is left of it, and the seconds until all is."""
    headers = {}
    for meter in meters:
        if meter.seconds == MINUTE:
            quota = meter.quota
            left = buckets.left(meter.name, quota)
            headers[f"x-ratelimit-limit-{meter.unit}"] = f"{meter.units:g}"
            headers[f"x-ratelimit-remaining-{meter.unit}"] = str(max(0, math.floor(left)))
            headers[f"x-ratelimit-reset-{meter.unit}"] = f"{math.ceil((quota.burst - left) / quota.rate)}s"
    return headers
