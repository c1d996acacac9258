"""A request's head: what passes, and why the rest does not."""

from __future__ import annotations

import pytest

from serve.errors import HeadTooLarge, NotHttp
from serve.heads import MAX_HEAD, MAX_HEADERS, check_head

HOST = (b"host", b"localhost")
CHUNKED = (b"transfer-encoding", b"chunked")


@pytest.mark.parametrize(
    ("version", "target", "headers"),
    [
        ("1.1", b"/", [HOST]),
        ("1.1", b"/v1/models?a=%23", [HOST, (b"accept", b"*/*")]),
        ("1.0", b"/healthz", []),
        ("1.1", b"/", [HOST, CHUNKED]),
        ("1.1", b"/", [HOST, (b"transfer-encoding", b" Chunked\t")]),
        ("1.1", b"/", [HOST] + [(b"x", b"y")] * (MAX_HEADERS - 1)),
        ("1.1", b"/" + b"a" * (MAX_HEAD - 14), [HOST]),
    ],
)
def test_a_proper_head_passes(version: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    check_head(version, target, headers)


@pytest.mark.parametrize(
    ("version", "target", "headers", "why"),
    [
        ("2.0", b"/", [HOST], "no other version"),
        ("0.9", b"/", [], "no other version"),
        ("1.1", b"http://localhost/", [HOST], "must be a path"),
        ("1.1", b"*", [HOST], "must be a path"),
        ("1.1", b"", [HOST], "must be a path"),
        ("1.1", b"/#x", [HOST], "must be a path"),
        ("1.1", b"/", [], "one Host header, and there are 0"),
        ("1.1", b"/", [HOST, HOST], "one Host header, and there are 2"),
        ("1.0", b"/", [HOST, HOST], "one Host header, and there are 2"),
        ("1.0", b"/", [HOST, CHUNKED], "chunked alone"),
        ("1.1", b"/", [HOST, CHUNKED, CHUNKED], "chunked alone"),
        ("1.1", b"/", [HOST, (b"transfer-encoding", b"gzip, chunked")], "chunked alone"),
        ("1.1", b"/", [HOST, (b"transfer-encoding", b"\x0bchunked")], "chunked alone"),
    ],
)
def test_a_head_that_could_be_read_otherwise_is_refused(
    version: str, target: bytes, headers: list[tuple[bytes, bytes]], why: str
) -> None:
    with pytest.raises(NotHttp, match=why):
        check_head(version, target, headers)


@pytest.mark.parametrize(
    ("target", "headers"),
    [(b"/", [HOST] + [(b"x", b"y")] * MAX_HEADERS), (b"/" + b"a" * (MAX_HEAD - 13), [HOST])],
)
def test_a_head_over_a_bound_is_too_large(target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(HeadTooLarge):
        check_head("1.1", target, headers)
