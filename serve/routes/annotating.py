"""The raters' queue: the next prompt with two to five responses, blind; and how far raters agree."""

from __future__ import annotations

import time
from dataclasses import asdict

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from serve.agreeing import agreement_of
from serve.annotating import next_item
from serve.auth import PRODUCT, AnnotateCaller
from serve.routes.parts import Parts, User, json_answer, limited_subject, listing
from serve.schemas.feedback import RatersShown

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


@router.get("/v1/annotations/raters", response_model=RatersShown, dependencies=[PRODUCT])
async def raters(parts: Parts, alias: str | None = None) -> Response:
    """Raters of an alias by how far they agree with the others, and Krippendorff's alpha over all of them."""
    name = parts.table.alias(alias or parts.settings.default_alias).name
    found = await run_in_threadpool(agreement_of, parts.settings.archive_place, name)
    told = {"alias": name, "alpha": found.alpha, "things": found.things, "shared": found.shared}
    return json_answer({**listing([asdict(rater) for rater in found.raters]), **told})
