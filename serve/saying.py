"""What all feedback has in common: whose response it is, one event per saying, a status when it is kept."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass
from typing import Literal

from fastapi import Request

from feedback.events import Event
from feedback.ids import new_event_id, verify
from serve.errors import BadField
from serve.gateway import Gateway

MAX_IDEMPOTENCY_KEY = 255


def verified(gateway: Gateway, thing_id: str, subject: str, *, any_age: bool = False) -> None:
    """Raises InvalidId, ExpiredId or NotStored unless the subject may speak about the response or
    comparison; ``any_age``: taking a vote back and looking at it have no end.
    """
    life = math.inf if any_age else gateway.settings.response_life_seconds
    verify(gateway.secrets, thing_id, subject, now=time.time(), life_seconds=life)


def said(request: Request, subject: str) -> str:
    """The id of this saying: new, or a function of the Idempotency-Key, so that a retry is the same event."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return new_event_id()
    if not 0 < len(key) <= MAX_IDEMPOTENCY_KEY:
        raise BadField("Idempotency-Key", f"must have 1 to {MAX_IDEMPOTENCY_KEY} characters")
    named = f"{subject}\n{request.url.path}\n{key}"
    return f"ev-{hashlib.sha256(named.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a saying."""

    code: int  # 201 new, 200 said before or replaces what was said, 202 waits on the local disk
    status: Literal["stored", "spooled"]
    repeat: bool  # nothing was written


async def say(gateway: Gateway, event: Event) -> Kept:
    """Keep the event; returns when it is on a disk."""
    written = await gateway.writer.write(event)
    said_before = written.appended.status
    if written.status == "spooled":
        return Kept(202, "spooled", False)
    return Kept(201 if said_before == "new" else 200, "stored", said_before == "repeat")
