"""The pages: static files, a strict content policy, and the cookie that tells one visitor from another."""

from __future__ import annotations

import mimetypes
import secrets
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from serve.auth import COOKIE, is_https
from serve.errors import NotFound
from serve.routes.parts import gateway_of

WEB = Path(__file__).resolve().parent.parent / "web"
PAGES = {path: path[1:] or "index" for path in ("/", "/annotate", "/docs", "/experiments", "/loop")}
YEAR = 365 * 86400
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
router = APIRouter(include_in_schema=False)


def served(file: Path) -> FileResponse:
    """A file of ``web/`` with its type and the content policy."""
    kind = TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    headers = {
        "content-security-policy": POLICY,
        "cross-origin-opener-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=()",
        "cache-control": "no-cache",
    }
    return FileResponse(file, media_type=kind, headers=headers)


@router.get("/")
@router.get("/annotate")
@router.get("/docs")
@router.get("/experiments")
@router.get("/loop")
async def page(request: Request) -> Response:
    """One page; a visitor without a cookie gets one. That of the API is there when the API may be described."""
    if request.scope["path"] == "/docs" and request.app.openapi_url is None:
        raise NotFound("this gateway does not describe its API: HEED_DOCS")
    file = WEB / f"{PAGES[request.scope['path']]}.html"
    if not file.is_file():
        raise NotFound("this page is not installed")
    response = served(file)
    if COOKIE not in request.cookies:
        secure = is_https(request, gateway_of(request).settings.trust_forwarded_proto)
        response.set_cookie(
            COOKIE, secrets.token_urlsafe(18), max_age=YEAR, httponly=True, samesite="lax", secure=secure
        )
    return response


@router.get("/favicon.ico")
@router.get("/static/{name:path}")
async def static(name: str = "favicon.svg") -> Response:
    """One file of ``web/``, never one outside of it."""
    try:
        file = (WEB / name).resolve()
        found = file.is_relative_to(WEB) and file.is_file() and file.suffix != ".py" and name[-1] != "/"
    except (OSError, ValueError):  # too long for a name, or with a null byte
        found = False
    if not found:
        raise NotFound("there is no such file")
    return served(file)
