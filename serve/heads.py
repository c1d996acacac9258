"""What the head of a request must be before anything else looks at it.

llhttp has read it, but it lets through what a proxy in front may read otherwise: that is how requests are
smuggled, and how a name that was checked is not the one that is used.
"""

from __future__ import annotations

from collections.abc import Sequence

from serve.errors import HeadTooLarge, NotHttp

MAX_HEAD = 64 * 1024  # bytes of request line and headers
MAX_HEADERS = 100
VERSIONS = frozenset({"1.0", "1.1"})


def check_head(version: str, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Raises NotHttp or HeadTooLarge. Header names are lower case; ``target`` is the request line's middle."""
    if len(headers) > MAX_HEADERS:
        raise HeadTooLarge(f"there are over {MAX_HEADERS} headers")
    if len(target) + sum(len(name) + len(value) for name, value in headers) > MAX_HEAD:
        raise HeadTooLarge(f"request line and headers are over {MAX_HEAD} bytes")
    if version not in VERSIONS:
        raise NotHttp("HTTP/1.0 and HTTP/1.1 are spoken here, no other version")
    if not target.startswith(b"/") or b"#" in target:
        raise NotHttp("the request's target must be a path, with no other host and no fragment in it")
    names = [name for name, _ in headers]
    hosts = names.count(b"host")
    if hosts > 1 or (not hosts and version == "1.1"):
        raise NotHttp(f"there must be one Host header, and there are {hosts}")
    if b"transfer-encoding" in names:
        codings = [value.strip(b" \t").lower() for name, value in headers if name == b"transfer-encoding"]
        if codings != [b"chunked"] or version == "1.0":
            raise NotHttp("Transfer-Encoding may be chunked alone, and in HTTP/1.1 alone")
