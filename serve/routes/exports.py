"""Feedback as NDJSON, in the forms that trainers read."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from feedback.archive import Archive
from feedback.export import export
from serve.auth import PRODUCT
from serve.errors import BadField
from serve.routes.parts import Parts

router = APIRouter(tags=["feedback"])


@router.get("/v1/feedback/export", response_class=StreamingResponse, dependencies=[PRODUCT])
def stream(
    parts: Parts,
    format: Literal["preference", "binary", "sft", "events"] = "events",  # noqa: A002 - the contract's name
    since: Annotated[str | None, Query(json_schema_extra={"format": "moment"})] = None,
    alias: str | None = None,
) -> StreamingResponse:
    """What is archived, streamed. ``since``: Unix seconds, or a date and time of ISO 8601."""
    after = None if since is None else moment(since)
    lines = export(Archive(parts.settings.archive_place), format, after, alias)
    return StreamingResponse(lines, media_type="application/x-ndjson")


def moment(text: str) -> float:
    """Unix seconds. Without a zone a time is UTC. Raises BadField."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            when = datetime.fromisoformat(text)
        except ValueError as error:
            raise BadField("since", "must be Unix seconds or a date of ISO 8601", status=422) from error
        seconds = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(seconds):
        raise BadField("since", "must be finite", status=422)
    return seconds
