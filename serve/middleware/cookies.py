"""Of a browser's cookies only Heed's own is passed on.

Others that the same host has set are none of its business, and a quoted value costs ``http.cookies``, which
every route's arguments go through, time that grows with its square (CVE-2024-7592).
"""

from __future__ import annotations

import re

from starlette.types import Scope

from serve.auth import COOKIE

_OWN = re.compile(rf"(?:^|;)\s*({COOKIE}=[A-Za-z0-9_-]{{1,256}})\s*(?:;|$)")


def own_cookie(scope: Scope) -> Scope:
    """The scope with no other cookie in it; none at all where Heed's is missing or not as it was given out."""
    return {**scope, "headers": [one for pair in scope["headers"] for one in _kept(*pair)]}


def _kept(name: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    if name != b"cookie":
        return [(name, value)]
    found = _OWN.search(value.decode("latin-1"))
    return [(name, found[1].encode())] if found else []
