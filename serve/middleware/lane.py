"""The chat route's short way: what every chat would pay for routing and injection that it does not use is left out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from feedback.errors import HeedError
from serve.errors import ClientLeft, response_of, translate


class Lane:
    """Calls ``endpoint`` itself for POST requests to ``path``. The framework has the same route, for all other methods
    and for /openapi.json; what surrounds this middleware is in force here too.
    """

    def __init__(self, app: ASGIApp, path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        self.app, self.path, self.endpoint = app, path, endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http" or scope["path"] != self.path or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        try:
            response = await self.endpoint(Request(scope, receive, send))
        except HeedError as error:
            response = response_of(translate(error))
        except ClientDisconnect:
            response = response_of(ClientLeft("the client has left"))
        await response(scope, receive, send)
