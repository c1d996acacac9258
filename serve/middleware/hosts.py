"""Only known Host names and no foreign origins: closes DNS rebinding and cross-site requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from starlette.types import Scope

from serve.auth import is_loopback
from serve.errors import BadField, Forbidden

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

    def __init__(self, allowed: frozenset[str], keyless: Callable[[Scope], bool]) -> None:
        self.allowed, self.keyless = allowed, keyless

    def check(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Raises BadField or Forbidden. ``headers``: the scope's; of a name that comes twice, the last."""
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._known(scope, name_of(host)):
            raise Forbidden(
                f"host {host[:100]!r} is not served here: HEED_ALLOWED_HOSTS", code="unknown_host"
            )
        if b"origin" in headers:
            origins = [
                value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"origin"
            ]
            own = {f"http://{host.lower()}", f"https://{host.lower()}"} if host else set()
            if not own.issuperset(origins):
                raise Forbidden("requests from other origins are not taken", code="foreign_origin")

    def _known(self, scope: Scope, name: str) -> bool:
        if name in self.allowed:
            return True
        if self.keyless(scope):
            return is_loopback(name)
        return not self.allowed or is_loopback(name)
