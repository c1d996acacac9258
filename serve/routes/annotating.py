"""The raters' queue: the next prompt with two responses, blind."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable

import orjson
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from feedback.errors import StoreUnavailable
from feedback.events import Message
from serve.auth import AnnotateCaller
from serve.chat_request import ChatRequest
from serve.comparing import open_both, paired, whole_comparison
from serve.errors import NotFound
from serve.gateway import Gateway
from serve.prompts import archived_prompts
from serve.routes.parts import Parts, User, json_answer, limited_subject

router = APIRouter(tags=["annotations"])
SEEN_KEPT = 2000  # prompts remembered per rater
ANSWER_TOKENS = 256


@router.get("/v1/annotations/next")
async def following(
    request: Request, caller: AnnotateCaller, parts: Parts, alias: str | None = None, user: User = None
) -> Response:
    """A recent prompt this rater has not seen, with two fresh responses; answered with POST
    /v1/comparisons. 404 when there is none.
    """
    began = time.perf_counter()
    name = parts.table.alias(alias or parts.settings.default_alias).name
    rater = limited_subject(parts, caller, request, None, user)
    messages = await _unseen(parts, name, rater)
    asked = ChatRequest(
        model=name,
        messages=[dict(message) for message in messages],
        sampling={"temperature": 1.0, "max_tokens": ANSWER_TOKENS},
    )
    comparison_id, records = paired(parts, caller, asked, rater, began)
    with parts.limits.chat(caller, rater, responses=2):
        upstreams = await open_both(parts, records)
        body = whole_comparison(parts.chats, comparison_id, records, upstreams)
    return json_answer({**body, "object": "annotation", "comparison_id": comparison_id, "messages": messages})


def digest(messages: tuple[Message, ...]) -> str:
    """A prompt's short name."""
    return hashlib.sha256(orjson.dumps(list(messages))).hexdigest()[:16]


async def _unseen(parts: Gateway, alias: str, rater: str) -> tuple[Message, ...]:
    """The newest prompt the rater has not seen, which is then marked as seen. Raises NotFound."""
    field, place = f"seen:{rater}", f"annotations/{alias}"
    try:
        seen = list((await run_in_threadpool(parts.registry.loop, place)).get(field, []))
    except StoreUnavailable:
        seen = []
    known = set(seen)
    prompts = [
        prompt.messages for prompt in reversed(list(parts.chats.recent_prompts)) if prompt.alias == alias
    ]
    found = _first(prompts, known)
    if found is None:
        guidelines = parts.table.alias(alias).guidelines
        archived = await run_in_threadpool(archived_prompts, parts.settings.archive_dir, alias, guidelines)
        found = _first(archived, known)
    if found is None:
        raise NotFound("there is no prompt left that you have not seen", code="no_annotation")
    kept = [*seen, digest(found)][-SEEN_KEPT:]
    await run_in_threadpool(parts.registry.set_loop, place, {field: kept})
    return found


def _first(prompts: Iterable[tuple[Message, ...]], known: set[str]) -> tuple[Message, ...] | None:
    return next((messages for messages in prompts if digest(messages) not in known), None)
