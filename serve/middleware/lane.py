"""The short way of the routes that are asked most: what each request would pay for routing and injection that it does
not use is left out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from feedback.errors import HeedError
from serve.errors import ClientLeft, response_of, translate

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response | None]]  # None: the request takes the long way


class Lane:
    """Calls the endpoint of a path itself for POST requests to it. The framework has the same route, for all other
    methods, for /openapi.json, and for what the endpoint leaves to it; what surrounds this middleware is in force here
    too.
    """

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint]) -> None:
        self.app, self.endpoints = app, endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        posted = scope["type"] == "http" and scope["method"] == "POST"
        endpoint = self.endpoints.get(scope["path"]) if posted else None
        if endpoint is None:
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive, send)
        try:
            response = await endpoint(request)
            body = b"" if response is not None else await request.body()
        except HeedError as error:
            response = response_of(translate(error))
        except ClientDisconnect:
            response = response_of(ClientLeft("the client has left"))
        if response is None:
            await self.app(scope, _again(body, receive), send)
        else:
            await response(scope, receive, send)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body that the endpoint has read, then whatever else comes."""
    rest: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return rest.pop() if rest else await receive()

    return again
