"""What every route is handed: the gateway, and an answer as JSON."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any

import orjson
from fastapi import Depends, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from serve.auth import Caller
from serve.chat_request import MAX_IDENTIFIER
from serve.gateway import Gateway


def gateway_of(request: Request) -> Gateway:
    """The process's gateway."""
    gateway: Gateway = request.app.state.gateway
    return gateway


async def _parts(request: Request) -> Gateway:
    """``async``, as FastAPI would call it in another thread otherwise."""
    return gateway_of(request)


Parts = Annotated[Gateway, Depends(_parts)]
User = Annotated[str | None, Query(min_length=1, max_length=MAX_IDENTIFIER)]  # empty would be the key itself


class Settled(APIRoute):
    """A route after whose changes this process goes by them before it answers: who writes reads its own writes. The
    gateway's other processes hear of them within milliseconds.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own, and then a look at the registry."""
        handle = super().get_route_handler()
        if self.methods <= {"GET", "HEAD"}:
            return handle

        async def settled(request: Request) -> Response:
            answer = await handle(request)
            await gateway_of(request).snapshot.caught_up()
            return answer

        return settled


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``body`` as JSON, without pydantic."""
    return Response(
        orjson.dumps(body),
        status_code=status,
        media_type="application/json",
        headers=dict(headers) if headers else None,
    )


def kept_too(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """How feedback is answered besides 201."""
    return {
        200: {"model": model, "description": "It was said before; what was said last counts"},
        202: {"model": model, "description": "The store is away: it is on this gateway's disk"},
    }


def listing(data: list[Any]) -> dict[str, Any]:
    """The contract's list."""
    return {"object": "list", "data": data}


def limited_subject(
    gateway: Gateway, caller: Caller, request: Request, safety_identifier: str | None, user: str | None
) -> str:
    """The end user's pseudonym, within its rate."""
    subject = gateway.doorman.subject(caller, request, safety_identifier, user)
    gateway.limits.spend(caller, subject)
    return subject
