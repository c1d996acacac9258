"""Of a browser's cookies only Heed's own is passed on.

Others that the same host has set are none of its business, and a quoted value costs ``http.cookies``, which
every route's arguments go through, time that grows with its square (CVE-2024-7592).
"""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.auth import COOKIE

_OWN = re.compile(rf"(?:^|;)\s*({COOKIE}=[A-Za-z0-9_-]{{1,256}})\s*(?:;|$)")


class OwnCookie:
    """Replaces the Cookie header; leaves none where Heed's cookie is missing or not as it was given out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on."""
        if scope["type"] == "http" and any(name == b"cookie" for name, _ in scope["headers"]):
            scope = {**scope, "headers": [one for pair in scope["headers"] for one in _kept(*pair)]}
        await self.app(scope, receive, send)


def _kept(name: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    if name != b"cookie":
        return [(name, value)]
    found = _OWN.search(value.decode("latin-1"))
    return [(name, found[1].encode())] if found else []
