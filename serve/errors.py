"""Every error of the gateway, drawn as a tree, and the one place where they become HTTP.

HeedError
└── GatewayError             has a status, a code and a type of OpenAI's error shape
    ├── BadField             a field of the body is wrong: names it (400, or 422 for feedback)
    ├── Unauthorized         no key, or one we do not know (401)
    ├── Forbidden            the key lacks the scope, or the host or origin is not allowed (403)
    ├── NotFound             no such thing, or not yours (404)
    ├── Gone                 past its life (410)
    ├── Unstored             served with ``store: false`` (409)
    ├── Clash                someone else changed it, or the state machine forbids it (409)
    ├── NotHttp              what came does not parse as HTTP (400)
    ├── TooLarge             the body is over its cap (413)
    ├── NotJson              the body is of another type, or compressed (415)
    ├── HeadTooLarge         the request line and headers are over theirs (431)
    ├── TooMany              over a limit: try again later (429)
    ├── Unavailable          warming up, full, or the store is away: try again later (503)
    ├── ClientLeft           nobody is there to read the answer (499, seen in metrics alone)
    └── EngineError
        ├── EngineUnreachable    no connection, or it broke before the first byte: another engine may do
        ├── EngineRefused        the engine answered with an error status
        └── EngineGarbled        the engine answered something that does not parse
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from feedback.errors import (
    Conflict,
    ExpiredId,
    HeedError,
    InvalidId,
    InvalidRecord,
    InvalidTransition,
    NotStored,
    SpoolFull,
    StoreUnavailable,
    UnknownRecord,
)
from serve.middleware.headers import PLAIN, request_id

MAX_NAME, MAX_MESSAGE = 100, 800  # characters of a client's own words that an error says back


def shown(text: str, most: int) -> str:
    """The text as it can be put into JSON: cut, and without the half characters that JSON can escape."""
    return text[:most].encode("utf-8", "replace").decode()


class GatewayError(HeedError):
    """An error with its place in HTTP and in OpenAI's shape."""

    status = 500
    code = "internal_error"
    kind = "server_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.param, self.retry_after, self.headers = param, retry_after, headers or {}
        self.code = code or self.code


class BadField(GatewayError):
    """A field of the body is wrong."""

    status, code, kind = 400, "invalid_value", "invalid_request_error"

    def __init__(self, param: str, why: str, *, status: int = 400, code: str | None = None) -> None:
        param = shown(param, MAX_NAME)
        super().__init__(f"{param}: {why}", param=param, code=code)
        self.why, self.status = why, status


class Unauthorized(GatewayError):
    """No key, or one we do not know."""

    status, code, kind = 401, "invalid_api_key", "authentication_error"


class Forbidden(GatewayError):
    """The key lacks the scope, or the host or origin is not allowed."""

    status, code, kind = 403, "forbidden", "permission_error"


class NotFound(GatewayError):
    """No such thing, or not yours."""

    status, code, kind = 404, "not_found", "invalid_request_error"


class Gone(GatewayError):
    """Past its life."""

    status, code, kind = 410, "response_expired", "invalid_request_error"


class Unstored(GatewayError):
    """The response was served with ``store: false``."""

    status, code, kind = 409, "response_not_stored", "invalid_request_error"


class Clash(GatewayError):
    """Someone else changed it, or the state machine forbids it."""

    status, code, kind = 409, "conflict", "invalid_request_error"


class TooLarge(GatewayError):
    """The body is over its cap."""

    status, code, kind = 413, "body_too_large", "invalid_request_error"


class NotJson(GatewayError):
    """The body is of another type, or compressed."""

    status, code, kind = 415, "unsupported_media_type", "invalid_request_error"


class HeadTooLarge(GatewayError):
    """The request line and headers are over their cap."""

    status, code, kind = 431, "headers_too_large", "invalid_request_error"


class NotHttp(GatewayError):
    """What came does not parse as HTTP."""

    status, code, kind = 400, "invalid_http", "invalid_request_error"


class TooMany(GatewayError):
    """Over a limit: try again later."""

    status, code, kind = 429, "rate_limit_exceeded", "rate_limit_error"


class Unavailable(GatewayError):
    """Warming up, full, or the store is away: try again later."""

    status, code, kind = 503, "unavailable", "server_error"


class ClientLeft(GatewayError):
    """Nobody is there to read the answer."""

    status, code, kind = 499, "client_left", "invalid_request_error"


class EngineError(GatewayError):
    """An engine did not do what was asked."""

    status, code, kind = 502, "engine_error", "server_error"


class EngineUnreachable(EngineError):
    """No connection, or it broke before the first byte."""


class EngineRefused(EngineError):
    """The engine answered with an error status; ``answered`` is that status."""

    def __init__(self, answered: int, message: str, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.answered = answered
        if answered in {400, 413, 422}:
            self.status, self.code, self.kind = 400, "invalid_value", "invalid_request_error"
        elif answered in {429, 503}:
            self.status, self.code, self.retry_after = 503, "engine_busy", 1


class EngineGarbled(EngineError):
    """The engine answered something that does not parse."""


def translate(error: HeedError) -> GatewayError:
    """What the contract's errors are in HTTP. GatewayErrors pass through."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, UnknownRecord):
        return NotFound(str(error), code=f"{error.kind.replace(' ', '_')}_not_found")
    if isinstance(error, InvalidRecord):
        return BadField(error.field, error.why, status=422)
    for kind, made in _TRANSLATIONS.items():
        if isinstance(error, kind):
            return made(str(error))
    return GatewayError("something went wrong here")


_TRANSLATIONS: dict[type[HeedError], Callable[[str], GatewayError]] = {
    InvalidId: lambda _: NotFound("there is no such response", code="response_not_found"),
    ExpiredId: lambda _: Gone("the time to vote on this response is over"),
    NotStored: lambda _: Unstored("the response was not stored (store: false), so it takes no feedback"),
    Conflict: Clash,
    InvalidTransition: Clash,
    SpoolFull: lambda _: Unavailable("feedback cannot be kept now", code="spool_full", retry_after=5),
    StoreUnavailable: lambda _: Unavailable("the store is away", code="store_unavailable", retry_after=2),
}


def body_of(error: GatewayError) -> dict[str, Any]:
    """OpenAI's error shape."""
    message, param = shown(str(error), MAX_MESSAGE), error.param and shown(error.param, MAX_NAME)
    return {"error": {"message": message, "type": error.kind, "param": param, "code": error.code}}


def response_of(error: GatewayError) -> Response:
    """The error as an HTTP response, with ``Retry-After`` where trying again makes sense."""
    headers = dict(error.headers)
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(
        orjson.dumps(body_of(error)), status_code=error.status, media_type="application/json", headers=headers
    )


def field_name(location: tuple[int | str, ...]) -> str:
    """``("body", "labels", "tone")`` → ``labels.tone``; the first part says where the field stands."""
    return ".".join(str(part) for part in location[1:] if part != "[key]") or "body"


async def _heed_error(_: Request, error: Exception) -> Response:
    return response_of(translate(error) if isinstance(error, HeedError) else GatewayError("internal error"))


async def _validation_error(_: Request, error: Exception) -> Response:
    first: Any = next(iter(error.errors()), {}) if isinstance(error, RequestValidationError) else {}
    if first.get("type") == "json_invalid":
        return response_of(BadField("body", "is not JSON", status=422, code="invalid_json"))
    return response_of(BadField(field_name(first.get("loc", ())), _why(first), status=422))


_SAID: dict[str, str] = {  # pydantic's kinds of error that it words for programmers
    "missing": "must be given",
    "extra_forbidden": "is not a field that is taken here",
    "model_attributes_type": "must be a JSON object",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be finite",
}


def _why(first: dict[str, Any]) -> str:
    """What is wrong with a field, and so how to mend it."""
    kind, told = str(first.get("type", "")), str(first.get("msg", "is wrong"))
    if kind == "string_pattern_mismatch":
        return f"must match {first['ctx']['pattern']}"
    if kind in {"string_too_long", "string_too_short", "too_long", "too_short"}:
        told = told.partition(" after validation")[0]
    told = told.removeprefix("Value error, ")
    for beginning in ("Input should ", "String should ", "List should ", "Dictionary should "):
        if told.startswith(beginning):
            told = f"must {told.removeprefix(beginning)}"
    return _SAID.get(kind, told)


_HTTP: dict[int, tuple[str, str]] = {
    404: ("not_found", "there is nothing at this address"),
    405: ("method_not_allowed", "this address does not take this method"),
}


def _methods(request: Request) -> str:
    """What the address takes, over all routes that share it; Starlette's own Allow tells of the first alone."""
    routes = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    exact = [route for route in routes if getattr(route, "path", None) == request.url.path]
    routes = exact or routes  # "export" is no response's id
    methods = {method for route in routes for method in getattr(route, "methods", None) or ()}
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 400:  # FastAPI's for bytes that json.loads refuses otherwise than as a syntax error
        return response_of(BadField("body", "is not JSON", status=422, code="invalid_json"))
    code, message = _HTTP.get(status, ("http_error", str(getattr(error, "detail", "error"))))
    known = GatewayError(message, code=code)
    known.status, known.kind = status, "invalid_request_error" if status < 500 else "server_error"
    response = response_of(known)
    response.headers.update(getattr(error, "headers", None) or {})
    if status == 405:
        response.headers["allow"] = _methods(request)
    return response


async def _left(_: Request, __: Exception) -> Response:
    return response_of(ClientLeft("the client has left"))


async def _unforeseen(_: Request, __: Exception) -> Response:
    """Starlette answers these from outside of all middleware, so what every answer has is put in here; and uvicorn
    closes after them, which a client that keeps its connections has to be told.
    """
    response = response_of(GatewayError("something went wrong here"))
    response.headers.update({**PLAIN, **request_id(), "connection": "close"})
    return response


def install(app: FastAPI) -> None:
    """Make every error that leaves a route an HTTP response of OpenAI's shape."""
    app.add_exception_handler(HeedError, _heed_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _left)
    app.add_exception_handler(Exception, _unforeseen)
