"""The raters' queue: the next prompt with two to five responses, blind."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response

from serve.annotating import next_item
from serve.auth import AnnotateCaller
from serve.routes.parts import Parts, User, json_answer, limited_subject

router = APIRouter(tags=["annotations"])


@router.get("/v1/annotations/next")
async def following(
    request: Request, caller: AnnotateCaller, parts: Parts, alias: str | None = None, user: User = None
) -> Response:
    """A prompt this rater has not seen, with the replies about which a rating would teach most; where the reward
    model has no opinion yet, a recent prompt with two fresh ones. Answered with POST /v1/comparisons: by
    ``comparison_id`` when there are two, by a ranking of the responses when there are more. 404 when there is none.
    """
    began = time.perf_counter()
    name = parts.table.alias(alias or parts.settings.default_alias).name
    rater = limited_subject(parts, caller, request, None, user)
    return json_answer(await next_item(parts, name, caller, rater, began))
