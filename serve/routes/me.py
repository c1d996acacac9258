"""What is held about me, and forgetting it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response

from feedback import forget
from feedback.events import Comparison, Event, Label, Report
from serve.auth import CHAT, ChatCaller
from serve.gateway import Gateway
from serve.routes.parts import Parts, User, json_answer
from serve.schemas.feedback import MeShown, ReceiptShown

router = APIRouter(tags=["me"])
LISTED = 100
INTERNAL = frozenset({"event_id", "feedback_id", "subject", "schema"})


@router.get("/v1/me", response_model=MeShown)
def me(request: Request, caller: ChatCaller, parts: Parts, user: User = None) -> Response:
    """My pseudonym, my newest responses with my votes on them, and the newest of what else I said."""
    subject = parts.doorman.subject(caller, request, user=user)
    held = [_held(parts, one, subject) for one in parts.log.responses_of(subject, LISTED)]
    spoken = parts.log.spoken(subject)[::-1]
    said = {
        name: [_told(event) for event in spoken if isinstance(event, kind)][:LISTED]
        for name, kind in (("comparisons", Comparison), ("labels", Label), ("reports", Report))
    }
    return json_answer({"object": "me", "subject": subject, "responses": held, **said})


@router.delete("/v1/me", status_code=202, response_model=ReceiptShown)
def forget_me(request: Request, caller: ChatCaller, parts: Parts, user: User = None) -> Response:
    """Forget me: all I said and was served up to now. A worker carries it out; the receipt tells how far."""
    subject = parts.doorman.subject(caller, request, user=user)
    receipt = forget.request(parts.registry, subject)
    parts.chats.forget(subject)
    return json_answer({"object": "receipt", **receipt}, 202)


@router.get("/v1/me/receipts/{receipt_id}", response_model=ReceiptShown, dependencies=[CHAT])
def receipt(receipt_id: str, parts: Parts) -> Response:
    """When each store was clean; null where it is not yet. The receipt's id is all that it takes to ask."""
    return json_answer({"object": "receipt", **forget.shown(parts.registry.receipt(receipt_id))})


def _told(event: Event) -> dict[str, Any]:
    """What was said, without what names it within Heed."""
    return {name: value for name, value in asdict(event).items() if name not in INTERNAL}


def _held(parts: Gateway, response_id: str, subject: str) -> dict[str, Any]:
    summary = parts.log.response(response_id)
    vote = parts.log.latest(response_id, subject)
    return {
        "response_id": response_id,
        "alias": summary.alias if summary else None,
        "time": summary.time if summary else None,
        "rating": vote.rating if vote else None,
        "reasons": list(vote.reasons) if vote else [],
        "comment": vote.comment if vote else None,
        "correction": vote.correction if vote else None,
    }
