"""What is held about me, and forgetting it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from feedback import forget
from feedback.archive import Archive
from serve.auth import CHAT, ChatCaller
from serve.gateway import Gateway
from serve.holdings import LISTS, holdings, told_of
from serve.routes.parts import Parts, User, json_answer, limited_subject
from serve.schemas.feedback import MeShown, ReceiptShown

router = APIRouter(tags=["me"])
LISTED = 100  # of each kind, when only the newest are asked for


@router.get("/v1/me", response_model=MeShown)
def me(
    request: Request, caller: ChatCaller, parts: Parts, user: User = None, recent: bool = False
) -> Response:
    """All that is held about me: prompts, replies and my votes on them, what else I said, in which experiments I am,
    and since when. With ``recent`` only my newest responses, without texts, and the newest of what I said: that is
    read from indexes and costs little.
    """
    subject = limited_subject(parts, caller, request, None, user)
    if not recent:
        pieces = holdings(subject, parts.log, Archive(parts.settings.archive_place))
        return StreamingResponse(pieces, media_type="application/json")
    held = [_held(parts, one, subject) for one in parts.log.responses_of(subject, LISTED)]
    spoken = parts.log.spoken(subject)[::-1]
    said = {
        name: [told_of(event) for event in spoken if isinstance(event, kind)][:LISTED] for name, kind in LISTS
    }
    return json_answer({"object": "me", "subject": subject, "responses": held, **said})


@router.delete("/v1/me", status_code=202, response_model=ReceiptShown)
def forget_me(request: Request, caller: ChatCaller, parts: Parts, user: User = None) -> Response:
    """Forget me: all I said and was served up to now. A worker carries it out; the receipt tells how far."""
    subject = limited_subject(parts, caller, request, None, user)
    receipt = forget.request(parts.registry, subject)
    parts.chats.forget(subject)
    return json_answer({"object": "receipt", **receipt}, 202)


@router.get("/v1/me/receipts/{receipt_id}", response_model=ReceiptShown, dependencies=[CHAT])
def receipt(receipt_id: str, parts: Parts) -> Response:
    """When each store was clean; null where it is not yet. The receipt's id is all that it takes to ask."""
    return json_answer({"object": "receipt", **forget.shown(parts.registry.receipt(receipt_id))})


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
