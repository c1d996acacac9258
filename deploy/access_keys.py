"""Access keys: made here, shown once, kept as digests."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace

from feedback.errors import InvalidRecord, UnknownRecord
from feedback.protocols import KeyRecord, Registry

SCOPES = ("chat", "annotate", "product", "ops", "admin")
KEY_PREFIX = "heed-"


def create_key(registry: Registry, scopes: Sequence[str], name: str) -> tuple[KeyRecord, str]:
    """A new key with these scopes: its record, and the key itself, kept nowhere. Raises InvalidRecord."""
    for scope in scopes:
        if scope not in SCOPES:
            raise InvalidRecord("--scope", f"{scope!r} is not one of {', '.join(SCOPES)}")
    if not scopes:
        raise InvalidRecord("--scope", f"is missing: one or more of {', '.join(SCOPES)}")
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    record = KeyRecord(
        id=f"k-{secrets.token_hex(5)}",
        digest=hashlib.sha256(key.encode()).hexdigest(),
        scopes=tuple(scopes),
        created=time.time(),
        name=name,
    )
    registry.put_key(record)
    return record, key


def revoke_key(registry: Registry, key_id: str) -> KeyRecord:
    """Let the key open nothing any more. Raises UnknownRecord."""
    records = registry.keys()
    for record in records:
        if record.id == key_id:
            revoked = replace(record, revoked=True)
            registry.put_key(revoked)
            return revoked
    raise UnknownRecord("key", key_id)
