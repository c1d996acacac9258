"""Votes: say, look at, take back."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from feedback.events import Rating, Vote
from feedback.ids import feedback_id
from serve.auth import Caller, ChatCaller, header_of
from serve.errors import NotFound
from serve.gateway import Gateway
from serve.metrics import OTHER
from serve.routes.parts import Parts, User, gateway_of, json_answer, kept_too, limited_subject
from serve.saying import said, say_once, verified
from serve.schemas.feedback import VoteAnswer, VoteBody, VoteHeld

router = APIRouter(tags=["feedback"])
PATH = "/v1/feedback"


@router.post(PATH, status_code=201, response_model=VoteAnswer, responses=kept_too(VoteAnswer))
async def vote(body: VoteBody, request: Request, caller: ChatCaller, parts: Parts) -> Response:
    """Keep a thumb. Answered only when it is on a disk; the last one said counts."""
    return await _vote(body, request, caller, parts)


async def vote_briefly(request: Request, data: bytes) -> Response | None:
    """The same for a body that is a vote, without the framework. None: it says what is wrong with any other."""
    if (header_of(request, b"content-type") or "").partition(";")[0].strip().lower() != "application/json":
        return None
    try:
        body = VoteBody.model_validate_json(data)
    except ValidationError:
        return None
    parts = gateway_of(request)
    caller = parts.doorman.caller(request)
    caller.need("chat")
    return await _vote(body, request, caller, parts)


async def _vote(body: VoteBody, request: Request, caller: Caller, parts: Gateway) -> Response:
    subject = limited_subject(parts, caller, request, body.safety_identifier, body.user)
    verified(parts, body.response_id, subject)
    event = Vote(
        event_id=said(request, subject, body.response_id),
        feedback_id=feedback_id(body.response_id, subject),
        response_id=body.response_id,
        time=time.time(),
        subject=subject,
        rating=body.rating,
        alias=parts.alias_here(body.response_id),
        reasons=tuple(body.reasons),
        comment=body.comment,
        correction=body.correction,
    )
    return await _kept(parts, event, request)


@router.get("/v1/feedback/{response_id}", response_model=VoteHeld)
def held(response_id: str, request: Request, caller: ChatCaller, parts: Parts, user: User = None) -> Response:
    """What I said about a response."""
    subject = parts.doorman.subject(caller, request, user=user)
    verified(parts, response_id, subject, any_age=True)
    history = parts.log.history(response_id, subject)
    latest = parts.log.latest(response_id, subject)
    if latest is None:
        raise NotFound("there is no feedback of yours on this response", code="feedback_not_found")
    answer = {
        "feedback_id": latest.feedback_id,
        "response_id": response_id,
        **_shown(latest),
        "history": [_shown(one) for one in history],
    }
    return json_answer(answer)


@router.delete("/v1/feedback/{response_id}", response_model=VoteAnswer, responses=kept_too(VoteAnswer))
async def take_back(
    response_id: str, request: Request, caller: ChatCaller, parts: Parts, user: User = None
) -> Response:
    """Take my vote back; that it was said stays in the history."""
    subject = limited_subject(parts, caller, request, None, user)
    verified(parts, response_id, subject, any_age=True)
    event = Vote(
        event_id=said(request, subject, response_id),
        feedback_id=feedback_id(response_id, subject),
        response_id=response_id,
        time=time.time(),
        subject=subject,
        rating=None,
        alias=parts.alias_here(response_id),
    )
    return await _kept(parts, event, request)


async def _kept(parts: Gateway, event: Vote, request: Request) -> Response:
    kept = await say_once(parts, event, request)
    if not kept.repeat:
        _count(parts, event.response_id, event.rating)
    code = 200 if event.rating is None and kept.code == 201 else kept.code
    answer = {
        "feedback_id": event.feedback_id,
        "response_id": event.response_id,
        "rating": event.rating,
        "status": kept.status,
    }
    return json_answer(answer, code)


def _shown(vote: Vote) -> dict[str, Any]:
    body = asdict(vote)
    return {name: body[name] for name in ("rating", "reasons", "comment", "correction", "time")}


def _count(parts: Gateway, response_id: str, rating: Rating | None) -> None:
    """The metric names the adapter when this process served the response; only served ones are labels."""
    _, adapter = parts.chats.recent.get(response_id, (OTHER, OTHER))
    parts.metrics.votes.labels(adapter, rating or "taken_back").inc()
