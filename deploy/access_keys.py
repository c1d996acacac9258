"""Access keys: made here, shown once, kept as digests."""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast, get_args

from feedback.errors import InvalidRecord, UnknownRecord
from feedback.protocols import KeyRecord, Priority, Registry

SCOPES = ("chat", "annotate", "product", "ops", "admin")
LIMITS = ("requests_per_minute", "tokens_per_minute", "tokens_per_day", "max_concurrent")
KEY_PREFIX = "heed-"


@dataclass(frozen=True, slots=True)
class Terms:
    """What a key is for and how much it may ask for; the fields are those of ``KeyRecord``."""

    scopes: Sequence[str]
    name: str = ""
    priority: str = "normal"
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    tokens_per_day: float | None = None
    max_concurrent: int | None = None


def create_key(registry: Registry, terms: Terms) -> tuple[KeyRecord, str]:
    """A new key: its record, and the key itself, kept nowhere. Raises InvalidRecord naming the option."""
    _check(terms)
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    record = KeyRecord(
        id=f"k-{secrets.token_hex(5)}",
        digest=hashlib.sha256(key.encode()).hexdigest(),
        scopes=tuple(terms.scopes),
        created=time.time(),
        name=terms.name,
        priority=cast("Priority", terms.priority),
        **{limit: getattr(terms, limit) for limit in LIMITS},
    )
    registry.put_key(record)
    return record, key


def _check(terms: Terms) -> None:
    for scope in terms.scopes:
        if scope not in SCOPES:
            raise InvalidRecord("--scope", f"{scope!r} is not one of {', '.join(SCOPES)}")
    if not terms.scopes:
        raise InvalidRecord("--scope", f"is missing: one or more of {', '.join(SCOPES)}")
    if terms.priority not in get_args(Priority):
        raise InvalidRecord("--priority", f"{terms.priority!r} is not one of {', '.join(get_args(Priority))}")
    for limit in LIMITS:
        value = getattr(terms, limit)
        if value is not None and not 0 <= value < math.inf:
            option = f"--{limit.replace('_', '-')}"
            raise InvalidRecord(option, f"{value:g} is not a number from 0; 0 is no limit")


def revoke_key(registry: Registry, key_id: str) -> KeyRecord:
    """Let the key open nothing any more. Raises UnknownRecord."""
    records = registry.keys()
    for record in records:
        if record.id == key_id:
            revoked = replace(record, revoked=True)
            registry.put_key(revoked)
            return revoked
    raise UnknownRecord("key", key_id)
