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
from serve.direct import known_direct
from serve.errors import ClientLeft, response_of, translate
from serve.middleware.headers import PLAIN, lines_of, request_id

# Given the request and its body. None: the request takes the long way.
Endpoint: TypeAlias = Callable[[Request, bytes], Awaitable[Response | None]]


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
        body = b""
        try:
            body = await _body(receive)
            response = await endpoint(Request(scope, receive, send), body)
        except HeedError as error:
            response = response_of(translate(error))
        except ClientDisconnect:
            response = response_of(ClientLeft("the client has left"))
        if response is None:
            await self.app(scope, _again(body, receive), send)
        elif type(response) is Response and (direct := known_direct(scope)) is not None:
            if direct.slow:
                await direct.ready()
            direct.answer(response.status_code, _lines(response), bytes(response.body))
        else:
            await response(scope, receive, send)


def _lines(response: Response) -> bytes:
    """Its headers, with those that every answer has."""
    own = [b"%b: %b\r\n" % pair for pair in response.raw_headers if pair[0] != b"content-length"]
    return b"".join(own) + lines_of({**PLAIN, **request_id()})


async def _body(receive: Receive) -> bytes:
    """The whole of it. Raises ClientDisconnect."""
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body that the endpoint has read, then whatever else comes."""
    rest: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return rest.pop() if rest else await receive()

    return again
