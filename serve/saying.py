"""What all feedback has in common: whose response it is, one event per saying, and a status when it is kept."""

from __future__ import annotations

import hashlib
import math
import time
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
    return f"ev-{hashlib.sha256(f'{subject}\n{request.url.path}\n{key}'.encode()).hexdigest()[:32]}"


async def say(gateway: Gateway, event: Event) -> tuple[int, Literal["stored", "spooled"]]:
    """Keep the event; 201 when it is new, 200 when it was said before or replaces what was said, 202 when
    it waits on the local disk for the store.
    """
    written = await gateway.writer.write(event)
    if written.status == "spooled":
        return 202, "spooled"
    return (201 if written.appended.status == "new" else 200), "stored"
