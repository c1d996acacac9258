"""What is no proper HTTP: smuggling, hosts that are not ours, heads without measure, other protocols."""

from __future__ import annotations

import json
import socket

import pytest

from tests.attacks.serving import CANARY, GOOD, Answer, Served, least_seconds, slowness

DATA = json.dumps(GOOD).encode()
ASK = b"POST /v1/chat/completions HTTP/1.1\r\n"
HOST = b"Host: localhost\r\nConnection: close\r\n"
SIZE = b"Content-Length: %d\r\n" % len(DATA)
CHUNKS = b"%x\r\n" % len(DATA) + DATA + b"\r\n0\r\n\r\n"
GET = b"GET /healthz HTTP/1.1\r\n"
NOT_HTTP = (400, None, "invalid_http")
TOO_LARGE = (431, None, "headers_too_large")
BAD_HOST = (400, "Host", "invalid_host")
STRANGE_HOST = (403, None, "unknown_host")


def chat(headers: bytes, body: bytes = DATA, start: bytes = ASK) -> bytes:
    return start + HOST + headers + b"\r\n" + body


def hosted(host: bytes) -> bytes:
    return ASK + b"Host: " + host + b"\r\nConnection: close\r\n" + SIZE + b"\r\n" + DATA


SMUGGLED = {
    "a length and chunks": chat(SIZE + b"Transfer-Encoding: chunked\r\n", CHUNKS),
    "chunks and a length": chat(b"Transfer-Encoding: chunked\r\n" + SIZE, CHUNKS),
    "two equal lengths": chat(SIZE + SIZE),
    "two lengths": chat(SIZE + b"Content-Length: 3\r\n"),
    "a list of lengths": chat(b"Content-Length: 5, 5\r\n"),
    "a length with a sign": chat(b"Content-Length: +%d\r\n" % len(DATA)),
    "a negative length": chat(b"Content-Length: -1\r\n"),
    "a hexadecimal length": chat(b"Content-Length: 0x10\r\n"),
    "a length with an underscore": chat(b"Content-Length: 1_0\r\n"),
    "a length over 64 bits": chat(b"Content-Length: 99999999999999999999999\r\n"),
    "an empty length": chat(b"Content-Length:\r\n"),
    "a space before the colon": chat(b"Content-Length : %d\r\n" % len(DATA)),
    "another coding": chat(b"Transfer-Encoding: gzip\r\n", CHUNKS),
    "a coding that looks like chunked": chat(b"Transfer-Encoding: xchunked\r\n", CHUNKS),
    "a coding under chunked": chat(b"Transfer-Encoding: gzip, chunked\r\n", CHUNKS),
    "a coding over chunked": chat(b"Transfer-Encoding: chunked, gzip\r\n", CHUNKS),
    "chunked in quotes": chat(b'Transfer-Encoding: "chunked"\r\n', CHUNKS),
    "chunked twice": chat(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", CHUNKS),
    "chunked and identity": chat(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", CHUNKS),
    "a vertical tab before chunked": chat(b"Transfer-Encoding: \x0bchunked\r\n", CHUNKS),
    "a folded coding": chat(b"Transfer-Encoding:\r\n chunked\r\n", CHUNKS),
    "chunks in HTTP/1.0": chat(b"Transfer-Encoding: chunked\r\n", CHUNKS, ASK.replace(b"1.1", b"1.0")),
    "a chunk's size that is no number": chat(b"Transfer-Encoding: chunked\r\n", b"zz\r\n" + DATA),
    "a negative chunk": chat(b"Transfer-Encoding: chunked\r\n", b"-1\r\n" + DATA),
    "a chunk over 64 bits": chat(b"Transfer-Encoding: chunked\r\n", b"f" * 18 + b"\r\n" + DATA),
    "a chunk's size with 0x": chat(b"Transfer-Encoding: chunked\r\n", b"0x5\r\nhello\r\n0\r\n\r\n"),
    "chunks ended by bare line feeds": chat(b"Transfer-Encoding: chunked\r\n", CHUNKS.replace(b"\r\n", b"\n")),
    "a chunk longer than said": chat(b"Transfer-Encoding: chunked\r\n", b"2\r\n" + CHUNKS),
    "a length among the trailers": chat(
        b"Transfer-Encoding: chunked\r\n", CHUNKS[:-2] + b"Content-Length: 5\r\n\r\n"
    ),
    "a folded header": chat(b"X: a\r\n b\r\n" + SIZE),
    "bare line feeds": chat(SIZE).replace(b"\r\n", b"\n"),
    "a bare carriage return in a value": chat(b"X: a\rContent-Length: 0\r\n" + SIZE),
    "a null byte in a value": chat(b"X: a\0b\r\n" + SIZE),
    "a null byte in a name": chat(b"X\0: a\r\n" + SIZE),
    "a name beyond ASCII": chat(b"X\xe9: a\r\n" + SIZE),
    "an empty name": chat(b": a\r\n" + SIZE),
    "a header without a colon": chat(b"Transfer-Encoding chunked\r\n" + SIZE),
    "a space before the first header": ASK + b" X: y\r\n" + HOST + SIZE + b"\r\n" + DATA,
    "two hosts": chat(b"Host: localhost\r\n" + SIZE),
    "two hosts that differ": chat(b"Host: evil.example\r\n" + SIZE),
    "no host": ASK + b"Connection: close\r\n" + SIZE + b"\r\n" + DATA,
    "an absolute target": b"GET http://localhost/healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "another host's target": b"GET http://evil.example/healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target with a name and key": b"GET http://a:b@localhost/healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "a tunnel": b"CONNECT localhost:8000 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target of a star": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "a fragment": chat(SIZE, start=ASK.replace(b"completions ", b"completions#x ")),
    "a backslash": chat(SIZE, start=ASK.replace(b"/v1", b"\\v1")),
    "a target beyond ASCII": b"GET /\xe9 HTTP/1.1\r\n" + HOST + b"\r\n",
    "a query beyond ASCII": b"GET /?\xff HTTP/1.1\r\n" + HOST + b"\r\n",
    "a null byte in the target": b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n",
    "an unknown method": b"FOO /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "a method in lower case": b"get /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/1.2": b"GET /healthz HTTP/1.2\r\n" + HOST + b"\r\n",
    "HTTP/2 by name": b"GET /healthz HTTP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
    "SSH": b"SSH-2.0-OpenSSH_9.9\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
}  # fmt: skip
LARGE = {
    "many headers": chat(b"".join(b"X-%d: y\r\n" % n for n in range(200)) + SIZE),
    "a long header": chat(b"X: " + b"a" * 70_000 + b"\r\n" + SIZE),
    "a very long header": chat(b"X: " + b"a" * 1_000_000 + b"\r\n" + SIZE),
    "a long target": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "a long model in the target": b"GET /v1/models/" + b"a" * 1_000_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "a long key": chat(b"Authorization: Bearer " + b"a" * 70_000 + b"\r\n" + SIZE),
    "a long cookie": chat(b"Cookie: heed_user=" + b"a" * 70_000 + b"\r\n" + SIZE),
}
HOSTS = {
    "a path in the host": (hosted(b"localhost/v1"), BAD_HOST),  # CVE-2026-48746
    "a query in the host": (hosted(b"localhost?x"), BAD_HOST),
    "a fragment in the host": (hosted(b"localhost#"), BAD_HOST),
    "a name before the host": (hosted(b"evil.example@localhost"), BAD_HOST),
    "a backslash in the host": (hosted(b"localhost\\evil.example"), BAD_HOST),
    "two hosts in one": (hosted(b"localhost, evil.example"), BAD_HOST),
    "a port that is a name": (hosted(b"localhost:http"), BAD_HOST),
    "a host beyond ASCII": (hosted(b"loc\xc3\xa1lhost"), BAD_HOST),
    "a percent in the host": (hosted(b"localhost%2f"), BAD_HOST),
    "an empty host": (hosted(b""), STRANGE_HOST),
    "another host": (hosted(b"evil.example"), STRANGE_HOST),
    "a host that ends as ours": (hosted(b"evil-localhost"), STRANGE_HOST),
    "ours under another": (hosted(b"localhost.evil.example"), STRANGE_HOST),
    "every address": (hosted(b"0.0.0.0"), STRANGE_HOST),
    "the cloud's metadata": (hosted(b"169.254.169.254"), STRANGE_HOST),
    "no host in HTTP/1.0": (b"GET /healthz HTTP/1.0\r\n\r\n", STRANGE_HOST),
    "another origin": (chat(b"Origin: http://evil.example\r\n" + SIZE), (403, None, "foreign_origin")),
    "no origin at all": (chat(b"Origin: null\r\n" + SIZE), (403, None, "foreign_origin")),
    "an origin without a scheme": (chat(b"Origin: localhost\r\n" + SIZE), (403, None, "foreign_origin")),
    "ours and another": (
        chat(b"Origin: http://evil.example\r\nOrigin: http://localhost\r\n" + SIZE),
        (403, None, "foreign_origin"),
    ),
}
ROWS = {
    **{name: (data, NOT_HTTP) for name, data in SMUGGLED.items()},
    **{name: (data, TOO_LARGE) for name, data in LARGE.items()},
    **HOSTS,
}


@pytest.mark.parametrize("name", ROWS)
def test_what_is_no_proper_request_is_refused(served: Served, name: str) -> None:
    data, expected = ROWS[name]
    with served.untouched():
        raw = served.raw(data)
    assert Answer(raw).error == expected
    assert raw.count(b"\r\n\r\n") == 1, "one answer, and then the connection is closed"


def test_what_follows_a_request_is_not_answered_before_it(served: Served) -> None:
    good = ASK + b"Host: localhost\r\n" + SIZE + b"\r\n" + DATA
    raw = served.raw(good + b"GET /healthz HTTP/9.9\r\n\r\n")
    assert Answer(raw).status == 200
    assert b"connection: close" in raw
    assert raw.count(b"HTTP/1.1 ") == 1


def test_a_request_within_a_body_is_not_answered(served: Served) -> None:
    inner = GET + b"Host: localhost\r\n\r\n"
    raw = served.raw(chat(b"Content-Length: %d\r\n" % len(inner), inner))
    assert Answer(raw).error == (400, "body", "invalid_json")
    assert raw.count(b"HTTP/1.1 ") == 1


def test_trailers_are_no_headers(served: Served) -> None:
    trailer = f"Host: evil.example\r\nHeed-User: {CANARY}\r\n\r\n".encode()
    body = CHUNKS.removesuffix(b"\r\n") + trailer
    raw = served.raw(chat(b"Transfer-Encoding: chunked\r\n", body))
    assert Answer(raw).status == 200


def test_a_trailer_or_an_extension_without_an_end_is_refused(served: Served) -> None:
    for endless in (b"%x\r\n" % len(DATA) + DATA + b"\r\n0\r\nX: ", b"%x;" % len(DATA)):
        with served.untouched():
            raw = served.raw(chat(b"Transfer-Encoding: chunked\r\n", endless + b"a" * 4_000_000))
        assert Answer(raw).error == TOO_LARGE


def test_a_body_over_the_cap_is_refused_by_its_announced_length_and_by_counting(served: Served) -> None:
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    for headers, body in (
        (b"Content-Length: 1048577\r\n", b""),
        (b"Content-Length: 9999999999\r\n", b""),
        (b"Transfer-Encoding: chunked\r\n", chunk * 17),
    ):
        with served.untouched():
            assert Answer(served.raw(chat(headers, body))).error == (413, None, "body_too_large")


@pytest.mark.parametrize(
    ("header", "param"),
    [
        (b"Content-Encoding: gzip", "Content-Encoding"),
        (b"Content-Encoding: identity, br", "Content-Encoding"),
        (b"Content-Type: text/plain", "Content-Type"),
        (b"Content-Type: application/x-www-form-urlencoded", "Content-Type"),
        (b"Content-Type: multipart/form-data; boundary=x", "Content-Type"),
        (b"Content-Type: application/jsonp", "Content-Type"),
        (b"Content-Type:", "Content-Type"),
    ],
)
def test_a_body_that_is_not_plain_json_is_415(served: Served, header: bytes, param: str) -> None:
    for path in (b"chat/completions", b"chat/comparisons", b"feedback", b"comparisons", b"aliases"):
        with served.untouched():
            raw = served.raw(chat(header + b"\r\n" + SIZE, start=b"POST /v1/" + path + b" HTTP/1.1\r\n"))
        assert Answer(raw).error == (415, param, "unsupported_media_type")


@pytest.mark.parametrize("kind", ["h2c", "websocket", "TLS/1.0"])
def test_nothing_is_upgraded_to(served: Served, kind: str) -> None:
    asking = GET + f"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: {kind}\r\n\r\n".encode()
    raw = served.raw(asking + GET + b"Host: localhost\r\n\r\n")
    answer = Answer(raw)
    assert (answer.status, answer.header("upgrade"), answer.header("connection")) == (200, None, "close")
    assert raw.count(b"HTTP/1.1 ") == 1


def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(served: Served) -> None:
    first, _, rest = served.raw(chat(b"Expect: 100-continue\r\n" + SIZE)).partition(b"\r\n\r\n")
    assert first == b"HTTP/1.1 100 Continue"
    assert Answer(rest).status == 200
    assert served.raw(chat(b"Expect: 100-continue\r\nContent-Length: 9999999\r\n", b"")).startswith(
        b"HTTP/1.1 413 "
    )


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/metrics", "/", "/docs", "/openapi.json", "/v1/models"]
)
def test_head_is_get_without_a_body(served: Served, path: str) -> None:
    asked, headed = served.ask("GET", path), served.ask("HEAD", path)
    assert (headed.status, headed.body) == (200, b"")
    assert {name for name, _ in headed.headers} == {name for name, _ in asked.headers}


def test_options_and_trace_are_not_taken_and_no_site_is_let_in(served: Served) -> None:
    for method in ("OPTIONS", "TRACE"):
        answer = served.ask(method, "/v1/chat/completions", headers="Origin: http://localhost\r\n")
        assert answer.error == (405, None, "method_not_allowed")
        assert not [name for name, _ in answer.headers if name.startswith("access-control")]


def test_an_old_client_gets_a_reply_without_chunks_that_ends_with_the_connection(served: Served) -> None:
    for path, whole in ((b"completions", False), (b"comparisons", False), (b"completions", True)):
        data = json.dumps({**GOOD, "stream": not whole}).encode()
        start = b"POST /v1/chat/" + path + b" HTTP/1.0\r\n"
        answer = Answer(served.raw(chat(b"Content-Length: %d\r\n" % len(data), data, start)))
        assert (answer.status, answer.header("connection")) == (200, "close")
        assert answer.header("transfer-encoding") is None
        assert (answer.header("content-length") is not None) == whole
        assert whole or answer.body.startswith(b"data: {")
        assert whole or answer.body.endswith(b"\n\ndata: [DONE]\n\n")


def test_a_flood_of_pipelined_requests_is_cut_off(served: Served) -> None:
    asked = 5_000
    raw = served.raw((GET + b"Host: localhost\r\n\r\n") * asked)
    assert 0 < raw.count(b"HTTP/1.1 200") < asked / 10
    assert served.chat().status == 200


def test_quoted_cookies_cost_nothing(served: Served) -> None:
    def ask() -> None:
        for cookie in ('"' + "\\" * 60_000 + '"', "a;" * 30_000, "=" * 60_000):
            assert served.ask("GET", "/v1/me", headers=f"Cookie: heed_user={cookie}\r\n").status == 200

    assert least_seconds(ask) < slowness()


def test_a_connection_that_says_nothing_holds_nobody_up(served: Served) -> None:
    with (
        socket.create_connection(("127.0.0.1", served.port)),
        socket.create_connection(("127.0.0.1", served.port)) as slow,
    ):
        slow.sendall(ASK[:-5])
        assert served.chat().status == 200
