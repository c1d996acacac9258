"""The short way takes POSTs to its paths alone, and answers as the long one would."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from feedback.errors import ExpiredId, HeedError, StoreUnavailable
from serve.errors import BadField, ClientLeft, Unauthorized, Unavailable
from serve.middleware.lane import Endpoint, Lane

PATH = "/v1/chat/completions"
WHOLE: tuple[Message, ...] = (
    {"type": "http.request", "body": b"a body", "more_body": True},
    {"type": "http.request", "body": b" in two"},
    {"type": "http.disconnect"},
)


async def long_way(_: Scope, __: Receive, send: Send) -> None:
    await PlainTextResponse("the long way")({"type": "http"}, __, send)


async def long_way_with_body(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    then = (await receive())["type"].encode()
    await PlainTextResponse(b"the long way with " + body + b", then " + then)(scope, receive, send)


async def short_way(_: Request, body: bytes) -> Response:
    return PlainTextResponse(b"the short way with " + body)


def failing(error: Exception) -> Callable[[Request, bytes], Awaitable[Response]]:
    async def endpoint(_: Request, __: bytes) -> Response:
        raise error

    return endpoint


async def declining(_: Request, body: bytes) -> None:
    assert body == b"a body in two"


async def through(
    endpoint: Endpoint,
    method: str = "POST",
    path: str = PATH,
    kind: str = "http",
    around: ASGIApp = long_way,
    coming: Sequence[Message] = WHOLE,
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    sent: list[Message] = []
    left = list(coming)

    async def receive() -> Message:
        return left.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": kind, "path": path, "method": method, "headers": []}
    await Lane(around, {PATH: endpoint, "/other": short_way})(scope, receive, send)
    head, *rest = sent
    headers = {name.decode(): value.decode() for name, value in head["headers"]}
    return head["status"], headers, b"".join(one.get("body", b"") for one in rest)


async def test_a_chat_goes_the_short_way() -> None:
    status, _, body = await through(short_way)
    assert (status, body) == (200, b"the short way with a body in two")


async def test_each_path_has_its_own_endpoint() -> None:
    assert (await through(declining, path="/other"))[2] == b"the short way with a body in two"


async def test_what_the_endpoint_leaves_goes_the_long_way_with_its_body() -> None:
    said = (await through(declining, around=long_way_with_body))[2]
    assert said == b"the long way with a body in two, then http.disconnect"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", PATH),
        ("OPTIONS", PATH),
        ("HEAD", PATH),
        ("post", PATH),
        ("POST", PATH + "/"),
        ("POST", PATH.upper()),
        ("POST", "/v1/chat/comparisons"),
        ("POST", "/"),
    ],
)
async def test_all_else_goes_the_long_way(method: str, path: str) -> None:
    assert (await through(short_way, method, path))[2] == b"the long way"


async def test_what_is_not_http_goes_the_long_way() -> None:
    assert (await through(short_way, kind="lifespan"))[2] == b"the long way"


@pytest.mark.parametrize(
    ("error", "status", "code", "header"),
    [
        (BadField("n", "must be 1"), 400, "invalid_value", None),
        (Unauthorized("no key"), 401, "invalid_api_key", ("www-authenticate", "Bearer")),
        (Unavailable("full", retry_after=3), 503, "unavailable", ("retry-after", "3")),
        (ExpiredId("old"), 410, "response_expired", None),
        (StoreUnavailable("away"), 503, "store_unavailable", ("retry-after", "2")),
        (ClientLeft("gone"), 499, "client_left", None),
        (ClientDisconnect(), 499, "client_left", None),
        (HeedError("unforeseen"), 500, "internal_error", None),
    ],
)
async def test_errors_have_the_contracts_shape(
    error: Exception, status: int, code: str, header: tuple[str, str] | None
) -> None:
    got, headers, body = await through(failing(error))
    assert (got, orjson.loads(body)["error"]["code"]) == (status, code)
    assert header is None or headers[header[0]] == header[1]


async def test_a_client_that_leaves_before_the_long_way_is_no_fault_of_ours() -> None:
    async def at_once(_: Request, __: bytes) -> None: ...

    status, _, body = await through(at_once, coming=[{"type": "http.disconnect"}])
    assert (status, orjson.loads(body)["error"]["code"]) == (499, "client_left")


async def test_a_fault_of_ours_is_left_to_what_surrounds_it() -> None:
    with pytest.raises(ZeroDivisionError):
        await through(failing(ZeroDivisionError()))
