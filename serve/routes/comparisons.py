"""Comparisons: ask for two responses, and say which is better."""

from __future__ import annotations

import contextlib
import time
from contextlib import ExitStack
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from feedback.errors import HeedError, StoreUnavailable
from feedback.events import Comparison
from feedback.ids import COMPARISON, feedback_id, sides
from feedback.rating import Offer
from feedback.rating import about as offers_about
from serve.auth import ComparingCaller
from serve.chat_request import parse_chat
from serve.comparing import ComparisonStream, leave_all, open_both, paired, whole_comparison
from serve.direct import direct_of
from serve.errors import BadField, translate
from serve.gateway import Gateway
from serve.metrics import OTHER, code_label
from serve.routes.parts import Parts, gateway_of, json_answer, kept_too, limited_subject
from serve.saying import said, say_once, verified
from serve.schemas.chat import ChatComparison
from serve.schemas.feedback import ComparisonAnswer, ComparisonBody

router = APIRouter(tags=["comparisons"])
NOT_TAKEN = frozenset({"n", "ignore_eos"})
MOST_RANKED = 16
REQUEST_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ComparedChat"}}},
    }
}


@router.post("/v1/chat/comparisons", response_model=ChatComparison, openapi_extra=REQUEST_SCHEMA)
async def compare(request: Request) -> Response:
    """Answer a chat twice, blind: two arms of the running experiment, or two samples."""
    began = time.perf_counter()
    gateway = gateway_of(request)
    try:
        caller = gateway.doorman.caller(request)
        caller.need("chat")
        asked = parse_chat(await request.body(), gateway.settings, refuse=NOT_TAKEN)
        if not asked.stored:
            raise BadField("store", "must be true: a comparison is asked for to be voted on")
        subject = limited_subject(gateway, caller, request, asked.safety_identifier, asked.user)
        if asked.pinned is not None:
            caller.need("product")
        if not gateway.table.knows(asked.alias, asked.pinned):
            await gateway.snapshot.look_again()
        comparison_id, records = paired(gateway, caller, asked, subject, began)
        direct = direct_of(request.scope)
        await gateway.limits.turn(caller, subject, responses=2)
        with ExitStack() as held:
            held.enter_context(gateway.limits.chat(caller, subject, responses=2))
            direct.watch(left=lambda: leave_all(records))
            try:
                upstreams = await open_both(gateway, records)
            finally:
                direct.watch()
            if asked.stream:
                return ComparisonStream(comparison_id, records, upstreams, gateway.chats, held.pop_all())
            return json_answer(whole_comparison(gateway.chats, comparison_id, records, upstreams))
    except Exception as error:
        status = translate(error).status if isinstance(error, HeedError) else 500
        gateway.metrics.chat_requests.labels(OTHER, OTHER, OTHER, code_label(status)).inc()
        raise


@router.post(
    "/v1/comparisons", status_code=201, response_model=ComparisonAnswer, responses=kept_too(ComparisonAnswer)
)
async def prefer(body: ComparisonBody, request: Request, caller: ComparingCaller, parts: Parts) -> Response:
    """Keep a preference: which side was better, a tie, both bad, or a ranking of responses."""
    subject = limited_subject(parts, caller, request, body.safety_identifier, body.user)
    ranking = _ranking(body, subject, parts)
    if body.comparison_id is None:
        await run_in_threadpool(_one_prompt, parts, ranking)
    every = [one for group in ranking for one in group]
    about = body.comparison_id or "+".join(sorted(every))
    offer = await run_in_threadpool(_offer, parts, body.comparison_id or offers_about(every), subject)
    event = Comparison(
        event_id=said(request, subject, about),
        feedback_id=feedback_id(about, subject),
        time=time.time(),
        subject=subject,
        ranking=ranking,
        both_bad=body.preferred == "both_bad",
        comparison_id=body.comparison_id,
        preferred_side=body.preferred if isinstance(body.preferred, int) else None,
        item=offer.name if offer else None,
        order=offer.order(ranking) if offer else (),
        alias=await parts.alias_of(ranking[0][0]),
        reasons=tuple(body.reasons),
        comment=body.comment,
    )
    kept = await say_once(parts, event, request)
    if offer is not None and event.alias is not None:
        await run_in_threadpool(_settle, parts, event.alias, offer)
    if not kept.repeat:
        parts.metrics.comparisons.labels(_result(body)).inc()
    answer = {
        "feedback_id": event.feedback_id,
        "comparison_id": body.comparison_id,
        "preferred": body.preferred,
        "ranking": ranking,
        "status": kept.status,
    }
    return json_answer(answer, kept.code)


def _ranking(body: ComparisonBody, subject: str, parts: Parts) -> tuple[tuple[str, ...], ...]:
    """Response ids, best first, each proved to be the subject's. Raises BadField, InvalidId and the like."""
    if body.preferred is not None and body.comparison_id is None:
        raise BadField("comparison_id", "must say of which comparison preferred is", status=422)
    if body.preferred is not None and body.ranking is not None:
        raise BadField("ranking", "cannot be given beside preferred", status=422)
    if body.preferred is None and body.ranking is None:
        raise BadField("preferred", "must be given with comparison_id, or a ranking instead", status=422)
    groups = tuple(tuple(group) for group in body.ranking or ())
    if body.comparison_id is not None:
        verified(parts, body.comparison_id, subject, prefix=COMPARISON)
        ids = sides(parts.secrets, body.comparison_id, subject)
        if isinstance(body.preferred, int):
            return (ids[body.preferred],), (ids[1 - body.preferred],)
        if body.preferred is not None:
            return (ids,)
        if sorted(one for group in groups for one in group) != sorted(ids):
            raise BadField("ranking", "must rank the two responses of the comparison", status=422)
        return groups
    every = [one for group in groups for one in group]
    if len(every) < 2 or len(set(every)) != len(every) or len(every) > MOST_RANKED:
        raise BadField("ranking", f"must rank 2 to {MOST_RANKED} different responses", status=422)
    for one in every:
        verified(parts, one, subject)
    return groups


def _offer(parts: Gateway, about: str, subject: str) -> Offer | None:
    """The item that the rater was offered; None for a comparison of one's own, and while the store is away."""
    with contextlib.suppress(StoreUnavailable):
        offer = parts.rating.offered(about)
        return offer if offer is not None and offer.rater == subject else None
    return None


def _settle(parts: Gateway, alias: str, offer: Offer) -> None:
    """While the store is away the offer runs out instead, and one rater more is asked."""
    with contextlib.suppress(StoreUnavailable):
        parts.rating.settle(alias, offer)


def _one_prompt(parts: Gateway, ranking: tuple[tuple[str, ...], ...]) -> None:
    """Raises BadField for responses known to answer different prompts, of which nothing can be learnt. What
    the store does not know yet passes: batching looks again.
    """
    with contextlib.suppress(StoreUnavailable):
        known = [parts.log.response(one) for group in ranking for one in group]
        if len({one.prompt for one in known if one is not None and one.prompt}) > 1:
            raise BadField("ranking", "must be of responses to the same prompt", status=422)


def _result(body: ComparisonBody) -> str:
    if isinstance(body.preferred, int):
        return "win"
    return body.preferred or "ranking"
