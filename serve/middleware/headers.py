"""On every answer: security headers, and a request id of its own, which SDKs show as ``_request_id``."""

from __future__ import annotations

import secrets

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PLAIN: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class AnswerHeaders:
    """Adds ``PLAIN`` and the id, never the client's own; what pages need besides (CSP) is set where they are
    served.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wrap ``send``."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                request_id = (b"x-request-id", b"req_" + secrets.token_hex(16).encode())
                message["headers"] = [*message["headers"], *PLAIN, request_id]
            await send(message)

        await self.app(scope, receive, sending)
