"""Who calls: the key and its scopes, and the pseudonym of the end user behind it.

With no key configured the gateway serves the loopback alone, where every caller has every scope. Keys are
looked up by digest, so nothing secret is compared byte by byte.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, TypeAlias

from fastapi import Depends, Request

from feedback.ids import Secrets, subject_of
from feedback.protocols import KeyRecord, Priority
from serve.chat_request import identifier
from serve.errors import Forbidden, Unauthorized
from serve.routing import RouteTable

Scope: TypeAlias = Literal["chat", "annotate", "product", "ops", "admin"]
SCOPES: frozenset[str] = frozenset({"chat", "annotate", "product", "ops", "admin"})
COOKIE = "heed_user"
USER_HEADER = b"heed-user"
LONGEST_ADDRESS = 64  # characters; IPv6 takes 45, and a zone's name some more
LOCAL_KEY = "local"  # the key id of callers on the loopback while no key is configured
ENV_KEY = "k-environment"  # the key id of HEED_ADMIN_KEY


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated request."""

    key_id: str
    scopes: frozenset[str]
    keyless: bool = False
    record: KeyRecord | None = None  # of a key that was made; its limits

    @property
    def priority(self) -> Priority | None:
        """None on the loopback without keys, where all callers are alike."""
        if self.record is not None:
            return self.record.priority
        return None if self.keyless else "normal"

    def has(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    def need(self, *scopes: Scope) -> None:
        """Raises Forbidden for want of all of them."""
        if not any(map(self.has, scopes)):
            raise Forbidden(f"this needs a key with scope {' or '.join(scopes)}", code="missing_scope")


def digest_of(key: str) -> str:
    """How keys are kept: SHA-256, hex. Keys are random and long, so no salt or stretching is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


def is_loopback(host: str | None) -> bool:
    """Whether an address or ``localhost`` names this machine alone. No address is longer: what clients send as a host
    may be, and is not kept.
    """
    return host is not None and len(host) <= LONGEST_ADDRESS and _is_loopback(host)


@lru_cache(maxsize=1024)
def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def header_of(request: Request, name: bytes) -> str | None:
    """The first header of that name, in lower case, as ``request.headers`` would give it, which is made first."""
    for one, value in request.scope["headers"]:
        if one == name:
            return str(value, "latin-1")
    return None


def is_https(request: Request, trusted: bool) -> bool:
    """Whether the client came over TLS. A proxy in front says so in ``X-Forwarded-Proto``, which anybody can
    send: it is believed only when ``trusted``.
    """
    scheme = request.headers.get("x-forwarded-proto") if trusted else None
    return (scheme or request.scope["scheme"]) == "https"


class Doorman:
    """Turns requests into callers and subjects."""

    def __init__(self, table: Callable[[], RouteTable], secrets: Secrets, admin_key: str) -> None:
        self._table = table
        self._secrets = secrets
        self._admin = digest_of(admin_key) if admin_key else ""

    @property
    def keyless(self) -> bool:
        """Whether no key is configured at all."""
        return not self._admin and not self._table().keys

    def caller(self, request: Request) -> Caller:
        """Raises Unauthorized for want of a known key, Forbidden for a stranger while no key exists."""
        if self.keyless:
            if request.client is not None and not is_loopback(request.client.host):
                raise Forbidden("no key is configured, so only this machine is served: heed keys create")
            return Caller(LOCAL_KEY, SCOPES, keyless=True)
        kind, _, key = (header_of(request, b"authorization") or "").partition(" ")
        if kind.lower() != "bearer" or not key:
            raise Unauthorized("a key is needed: Authorization: Bearer …", code="missing_api_key")
        digest = digest_of(key.strip())
        if self._admin and hmac.compare_digest(digest, self._admin):
            return Caller(ENV_KEY, SCOPES)
        record = self._table().keys.get(digest)
        if record is None or not hmac.compare_digest(record.digest, digest):
            raise Unauthorized("the key is not known")
        return Caller(record.id, frozenset(record.scopes), record=record)

    def subject(
        self, caller: Caller, request: Request, safety_identifier: str | None = None, user: str | None = None
    ) -> str:
        """The end user's pseudonym. Who is it: the body's safety_identifier, else its user, else the header,
        else the page's cookie, else the key itself.
        """
        named = safety_identifier or user
        if not named and (header := header_of(request, USER_HEADER)) is not None:
            named = identifier(_as_sent(header), "Heed-User")
        if named:
            return subject_of(self._secrets, caller.key_id, f"user:{named}")
        cookie = request.cookies.get(COOKIE, "")
        return subject_of(self._secrets, caller.key_id, f"page:{cookie}" if cookie else "key:")


def _as_sent(header: str) -> str:
    """Header bytes come decoded as Latin-1; who sends an identifier in UTF-8 is the same in body and header."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeDecodeError:
        return header


def doorman_of(request: Request) -> Doorman:
    """The gateway's doorman."""
    doorman: Doorman = request.app.state.gateway.doorman
    return doorman


def needs(*scopes: Scope) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency: the caller, who has one of the scopes. Nothing in it waits; were it not ``async``, FastAPI would
    hand it to another thread and back for every request.
    """

    async def check(request: Request) -> Caller:
        caller = doorman_of(request).caller(request)
        caller.need(*scopes)
        return caller

    return check


ChatCaller = Annotated[Caller, Depends(needs("chat"))]
AnnotateCaller = Annotated[Caller, Depends(needs("annotate"))]
ComparingCaller = Annotated[Caller, Depends(needs("chat", "annotate"))]  # raters answer with comparisons
ProductCaller = Annotated[Caller, Depends(needs("product"))]
# Where it does not matter further who calls.
CHAT, PRODUCT, OPS = Depends(needs("chat")), Depends(needs("product")), Depends(needs("ops"))
