"""What all feedback has in common: whose response it is, one event per saying, a status when it is kept."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass
from typing import Literal

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from feedback.events import Comparison, Event, Label, Vote
from feedback.facts import said as content
from feedback.ids import RESPONSE, new_event_id, verify
from serve.errors import BadField, Clash
from serve.gateway import Gateway

RETRY_HEADER = "idempotency-key"
MAX_IDEMPOTENCY_KEY = 255


def verified(
    gateway: Gateway, thing_id: str, subject: str, *, prefix: str = RESPONSE, any_age: bool = False
) -> None:
    """Raises InvalidId, ExpiredId or NotStored unless the subject may speak about the response or
    comparison; ``any_age``: taking a vote back and looking at it have no end.
    """
    life = math.inf if any_age else gateway.settings.response_life_seconds
    verify(gateway.secrets, thing_id, subject, now=time.time(), life_seconds=life, prefix=prefix)


def said(request: Request, subject: str, about: str) -> str:
    """The id of this saying: new, or a function of the Idempotency-Key and of what it is about, so that a
    retry is the same event and the key on another thing is not.
    """
    key = request.headers.get(RETRY_HEADER)
    if key is None:
        return new_event_id()
    if not 0 < len(key) <= MAX_IDEMPOTENCY_KEY:
        raise BadField("Idempotency-Key", f"must have 1 to {MAX_IDEMPOTENCY_KEY} characters")
    named = f"{subject}\n{request.scope['path']}\n{key}\n{about}"
    return f"ev-{hashlib.sha256(named.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a saying."""

    code: int  # 201 new, 200 said before or replaces what was said, 202 waits on the local disk
    status: Literal["stored", "spooled"]
    repeat: bool  # nothing was written
    event: Event  # as it is kept, which may be without personal data


async def say(gateway: Gateway, event: Event) -> Kept:
    """Keep the event; returns when it is on a disk."""
    written = await gateway.writer.write(event)
    said_before = written.appended.status
    if written.status == "spooled":
        return Kept(202, "spooled", False, written.event)
    return Kept(201 if said_before == "new" else 200, "stored", said_before == "repeat", written.event)


async def say_once(gateway: Gateway, event: Vote | Comparison | Label, request: Request) -> Kept:
    """As ``say``. Raises Clash when the request's Idempotency-Key came with other words before."""
    kept = await say(gateway, event)
    if kept.repeat and RETRY_HEADER in request.headers:
        for one in await run_in_threadpool(gateway.log.sayings, event.feedback_id):
            if (
                one.event_id == event.event_id
                and isinstance(one, Vote | Comparison | Label)
                and isinstance(kept.event, type(one))
                and content(one) != content(kept.event)
            ):
                raise reused()
    return kept


def reused() -> Clash:
    """The error for an Idempotency-Key that came with other words before."""
    return Clash("this Idempotency-Key was used with another body", code="idempotency_key_reused")
