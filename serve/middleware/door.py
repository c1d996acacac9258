"""Where every request comes in: who may ask, what a body may be, which cookie is ours; what every answer says."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.errors import GatewayError, response_of
from serve.middleware.bodies import BodyCap
from serve.middleware.cookies import own_cookie
from serve.middleware.headers import heading
from serve.middleware.hosts import KnownHosts


class Door:
    """One step for all, since each that surrounds a chat costs it some microseconds."""

    def __init__(self, app: ASGIApp, hosts: KnownHosts, bodies: BodyCap) -> None:
        self.app, self._hosts, self._bodies = app, hosts, bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, send = dict(scope["headers"]), heading(send)
        try:
            self._hosts.check(scope, headers)
            receive = await self._bodies.checked(headers, receive)
        except GatewayError as error:
            await response_of(error)(scope, receive, send)
            return
        if b"cookie" in headers:
            scope = own_cookie(scope)
        await self.app(scope, receive, send)
