"""Only known Host names and no foreign origins: closes DNS rebinding and cross-site requests."""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.auth import is_loopback
from serve.errors import BadField, Forbidden, GatewayError, response_of

_AUTHORITY = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]*))(?::[0-9]{1,5})?", re.IGNORECASE)


def name_of(authority: str) -> str:
    """``example.org:8080`` → ``example.org``; ``[::1]:80`` → ``::1``; empty stays empty. Raises BadField for what
    is more than a name and a port: a path in it would be taken for the request's (CVE-2026-48746).
    """
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise BadField("Host", "must be a name or address, and a port or none", code="invalid_host")
    return (found[1] or found[2]).lower()


class KnownHosts:
    """While no key is configured, only loopback names and the allowed ones are answered; with keys and an
    empty list, any. A browser's request from another origin is refused always: there is no CORS.
    """

    def __init__(self, app: ASGIApp, allowed: frozenset[str], keyless: Callable[[Scope], bool]) -> None:
        self.app, self.allowed, self.keyless = app, allowed, keyless

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 400 or 403."""
        if scope["type"] == "http":
            try:
                self._check(scope)
            except GatewayError as error:
                await response_of(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        host, origins = "", []
        for name, value in scope["headers"]:
            if name == b"host":
                host = value.decode("latin-1")
            elif name == b"origin":
                origins.append(value.decode("latin-1"))
        if not self._known(scope, name_of(host)):
            raise Forbidden(
                f"host {host[:100]!r} is not served here: HEED_ALLOWED_HOSTS", code="unknown_host"
            )
        own = {f"http://{host.lower()}", f"https://{host.lower()}"} if host else set()
        if any(origin.lower() not in own for origin in origins):
            raise Forbidden("requests from other origins are not taken", code="foreign_origin")

    def _known(self, scope: Scope, name: str) -> bool:
        if name in self.allowed:
            return True
        if self.keyless(scope):
            return is_loopback(name)
        return not self.allowed or is_loopback(name)
