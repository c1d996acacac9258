"""POST /v1/chat/completions."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response

from feedback.errors import HeedError
from feedback.ids import mint_response
from serve.auth import Caller, header_of
from serve.chat_request import ChatRequest, parse_chat
from serve.direct import direct_of
from serve.errors import ClientLeft, GatewayError, translate
from serve.gateway import Gateway
from serve.metrics import OTHER, code_label
from serve.record import CLIENT_LEFT, Record, whole_body
from serve.routes.parts import gateway_of, json_answer, limited_subject
from serve.schemas.chat import ChatAnswer
from serve.stream import ChatStream

router = APIRouter(tags=["chat"])
PATH = "/v1/chat/completions"
REQUEST_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ChatBody"}}},
    }
}


@router.post(PATH, response_model=ChatAnswer, openapi_extra=REQUEST_SCHEMA)
async def chat(request: Request) -> Response:
    """Answer a chat, streaming or not, with the arm that the end user is in."""
    return await answer(request, await request.body())


async def answer(request: Request, body: bytes) -> Response:
    """The same, without the framework."""
    began = time.perf_counter()
    gateway = gateway_of(request)
    record = None
    try:
        caller = gateway.doorman.caller(request)
        caller.need("chat")
        asked = parse_chat(body, gateway.settings)
        if not gateway.table.knows(asked.alias, asked.pinned):
            await gateway.snapshot.look_again()
        record = planned(gateway, caller, request, asked, began)
        return await _answer(gateway, caller, request, record)
    except HeedError as error:
        raise _counted(gateway, record, translate(error)) from error
    except Exception:
        _counted(gateway, record, GatewayError("a fault of ours"))
        raise


def planned(gateway: Gateway, caller: Caller, request: Request, asked: ChatRequest, began: float) -> Record:
    """Who asks, which arm answers, and under which id."""
    subject = limited_subject(gateway, caller, request, asked.safety_identifier, asked.user)
    if asked.pinned is not None:
        caller.need("product")
    plan = gateway.table.plan(asked.alias, asked.pinned, subject)
    response_id = mint_response(gateway.secrets, subject, now=time.time(), stored=asked.stored)
    return Record(asked, plan, response_id, subject, caller, began=began)


def debug_headers(caller: Caller, request: Request, record: Record) -> dict[str, str]:
    """Which arm it was: only for a product key that asks for it."""
    if header_of(request, b"heed-debug") != "1" or not caller.has("product"):
        return {}
    plan = record.plan
    return {"heed-adapter": plan.adapter, "heed-arm": plan.arm, "heed-engine": record.engine}


async def _answer(gateway: Gateway, caller: Caller, request: Request, record: Record) -> Response:
    direct = direct_of(request.scope)
    direct.watch(left=record.leave)
    try:
        await gateway.limits.turn(caller, record.subject)
        admitted = gateway.limits.chat(caller, record.subject)
        try:
            upstream = await gateway.chats.asking.open(record, gateway.table)
        except BaseException:
            admitted.close()
            raise
    except BaseException:
        direct.watch()
        raise
    headers = {**admitted.headers, **debug_headers(caller, request, record)}
    if record.request.stream:
        return ChatStream(gateway.chats, upstream, record, admitted, headers)  # which watches from now on
    direct.watch()
    admitted.close()
    record.saw_first()
    try:
        body = whole_body(record, upstream.data)
    finally:
        upstream.close()
    gateway.chats.finish(record)
    return json_answer(body, headers=headers)


def _counted(gateway: Gateway, record: Record | None, error: GatewayError) -> GatewayError:
    """Failures count too: under the arm that failed once an engine was asked. Who left pays what he asked for."""
    if record is not None and record.caller is not None and isinstance(error, ClientLeft):
        record.code = CLIENT_LEFT
        gateway.limits.charge(record.caller, sum(record.spent()))
    if record is not None and record.engine and error.status >= 500:
        record.code = error.status
        record.request.stored = False
        gateway.chats.finish(record)
    else:
        alias = record.plan.alias if record is not None else OTHER
        gateway.metrics.chat_requests.labels(alias, OTHER, OTHER, code_label(error.status)).inc()
    return error
