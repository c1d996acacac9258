"""The limits by time that a key has: its own, else the settings'."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from feedback.protocols import KeyRecord
from serve.buckets import Bucket, Quota
from serve.settings import GatewaySettings

MINUTE, DAY = 60.0, 86400.0
Unit: TypeAlias = Literal["requests", "tokens"]
_NAMES: dict[Unit, tuple[str, str, str]] = {
    "requests": (
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    ),
    "tokens": ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
}


@dataclass(frozen=True, slots=True)
class Meter:
    """One limit of one key, counted in the bucket of that name."""

    name: str
    unit: Unit
    units: float
    seconds: float
    quota: Quota

    @property
    def said(self) -> str:
        """As errors name it: ``600 tokens a minute``."""
        return f"{self.units:g} {self.unit} a {'minute' if self.seconds == MINUTE else 'day'}"

    @property
    def option(self) -> str:
        """What sets it when a key is made."""
        return f"--{self.unit}-per-{'minute' if self.seconds == MINUTE else 'day'}"


class KeyMeters:
    """The meters of every key, made when first asked for and anew when the key's record is another."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._known: dict[str, tuple[KeyRecord, tuple[Meter, ...]]] = {}  # by key id; keys are few

    def of(self, record: KeyRecord | None) -> tuple[Meter, ...]:
        """All limits of the key; none without a record."""
        if record is None:
            return ()
        known = self._known.get(record.id)
        if known is None or known[0] is not record:
            known = self._known[record.id] = record, tuple(self._made(record))
        return known[1]

    def _made(self, record: KeyRecord) -> Iterator[Meter]:
        settings = self._settings
        limits: tuple[tuple[Unit, float, float | None, float], ...] = (
            ("requests", MINUTE, record.requests_per_minute, settings.key_requests_per_minute),
            ("tokens", MINUTE, record.tokens_per_minute, settings.key_tokens_per_minute),
            ("tokens", DAY, record.tokens_per_day, settings.key_tokens_per_day),
        )
        for unit, seconds, own, general in limits:
            if units := general if own is None else own:
                name = f"{record.id}:{unit}:{seconds:.0f}"
                yield Meter(name, unit, units, seconds, Quota.per(units, seconds))


def headers_of(metered: Sequence[tuple[Meter, Bucket]], now: float) -> dict[str, str]:
    """OpenAI's ``x-ratelimit-*``: the limit a minute, what is left of it, and the seconds until all is."""
    headers = {}
    for meter, bucket in metered:
        if meter.seconds == MINUTE:
            quota, left = meter.quota, bucket.left(now)
            limit, remaining, reset = _NAMES[meter.unit]
            headers[limit] = f"{meter.units:g}"
            headers[remaining] = str(max(0, math.floor(left)))
            headers[reset] = f"{math.ceil((quota.burst - left) / quota.rate)}s"
    return headers
