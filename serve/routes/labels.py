"""Labels of raters, and reports of what is unsafe."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from typing import Literal

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from feedback.errors import UnknownRecord
from feedback.events import Label, Report
from feedback.ids import feedback_id, new_event_id
from serve.auth import PRODUCT, AnnotateCaller, ChatCaller
from serve.gateway import Gateway
from serve.prompts import texts_of
from serve.routes.parts import Parts, json_answer, kept_too, limited_subject, listing
from serve.saying import reused, said, say, say_once, verified
from serve.schemas.base import Listing
from serve.schemas.feedback import LabelAnswer, LabelBody, ReportBody, ReportShown, VerdictBody

router = APIRouter(tags=["feedback"])


@router.post("/v1/labels", status_code=201, response_model=LabelAnswer, responses=kept_too(LabelAnswer))
async def label(body: LabelBody, request: Request, caller: AnnotateCaller, parts: Parts) -> Response:
    """Keep a rater's scores of one response, by criterion."""
    subject = limited_subject(parts, caller, request, body.safety_identifier, body.user)
    verified(parts, body.response_id, subject)
    event = Label(
        event_id=said(request, subject, body.response_id),
        feedback_id=feedback_id(f"label:{body.response_id}", subject),  # a voice beside the vote's
        response_id=body.response_id,
        time=time.time(),
        subject=subject,
        labels=dict(body.labels),
        alias=await parts.alias_of(body.response_id),
    )
    kept = await say_once(parts, event, request)
    answer = {"feedback_id": event.feedback_id, "response_id": body.response_id, "status": kept.status}
    return json_answer(answer, kept.code)


@router.post("/v1/reports", status_code=201, response_model=ReportShown, responses=kept_too(ReportShown))
async def report(body: ReportBody, request: Request, caller: ChatCaller, parts: Parts) -> Response:
    """Say that a response is unsafe: training leaves it out until the report is dismissed."""
    subject = limited_subject(parts, caller, request, body.safety_identifier, body.user)
    verified(parts, body.response_id, subject)
    event_id = said(request, subject, body.response_id)
    event = Report(
        event_id=event_id,
        report_id=f"rp-{hashlib.sha256(event_id.encode()).hexdigest()[:16]}",
        response_id=body.response_id,
        time=time.time(),
        subject=subject,
        report_kind=body.kind,
        comment=body.comment,
        alias=await parts.alias_of(body.response_id),
    )
    kept = await say(parts, event)
    event = replace(event, comment=getattr(kept.event, "comment", None))  # as it is kept
    if kept.repeat:
        event = await run_in_threadpool(_as_said_before, parts, event)
    return json_answer(_shown(event, kept.status), kept.code)


@router.get("/v1/reports", response_model=Listing, dependencies=[PRODUCT])
def reports(parts: Parts, state: Literal["open", "all"] = "open") -> Response:
    """Open reports, or with ``state=all`` every one, with the prompt and the reply that each is about."""
    found = _reports(parts, state == "open")
    texts = texts_of(parts.settings.archive_place, {one.response_id for one in found})
    nothing = {"messages": None, "text": None}
    return json_answer(listing([{**_shown(one), **texts.get(one.response_id, nothing)} for one in found]))


@router.post("/v1/reports/{report_id}", response_model=ReportShown, dependencies=[PRODUCT])
async def decide(report_id: str, body: VerdictBody, parts: Parts) -> Response:
    """Uphold or dismiss a report."""
    every = await run_in_threadpool(_reports, parts, False)
    found = next((one for one in every if one.report_id == report_id), None)
    if found is None:
        raise UnknownRecord("report", report_id)
    event = replace(found, event_id=new_event_id(), time=time.time(), verdict=body.verdict)
    kept = await say(parts, event)
    return json_answer(_shown(event, kept.status), 202 if kept.status == "spooled" else 200)


def _as_said_before(parts: Gateway, event: Report) -> Report:
    """The report that this one retries. Raises Clash when it says something else."""
    for one in _reports(parts, False):
        if one.report_id == event.report_id:
            if (one.report_kind, one.comment) != (event.report_kind, event.comment):
                raise reused()
            return one
    return event


def _reports(parts: Gateway, open_only: bool) -> list[Report]:
    return [one for one in parts.log.reports(open_only=open_only) if isinstance(one, Report)]


def _shown(report: Report, status: str = "stored") -> dict[str, object]:
    return {
        "id": report.report_id,
        "object": "report",
        "response_id": report.response_id,
        "kind": report.report_kind,
        "comment": report.comment,
        "verdict": report.verdict,
        "alias": report.alias,
        "time": report.time,
        "status": status,
    }
