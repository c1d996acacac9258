"""The pages and their files."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from serve import errors
from serve.auth import COOKIE
from serve.routes import pages
from serve.settings import GatewaySettings


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    folder = tmp_path / "web"
    folder.mkdir()
    for name, text in (
        ("index.html", "<p>chat</p>"),
        ("loop.html", "<p>loop</p>"),
        ("docs.html", "<p>routes</p>"),
        ("chat.js", "1"),
        ("look.css", "a{}"),
    ):
        (folder / name).write_text(text)
    (tmp_path / "secret.txt").write_text("secret")
    monkeypatch.setattr(pages, "WEB", folder)
    app = FastAPI(docs_url=None)
    app.state.gateway = SimpleNamespace(settings=GatewaySettings())
    errors.install(app)
    app.include_router(pages.router)
    return TestClient(app)


def test_a_page_comes_with_its_policy_and_a_cookie_of_its_own(web: TestClient) -> None:
    answer = web.get("/")
    assert (answer.status_code, answer.text) == (200, "<p>chat</p>")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "set-cookie" not in web.get("/loop").headers


@pytest.mark.parametrize(
    ("trusted", "sent", "secure"),
    [(False, "https", False), (True, "https", True), (True, "http", False), (True, None, False)],
)
def test_the_cookie_is_secure_over_https_and_only_a_trusted_proxy_says_so(
    web: TestClient, trusted: bool, sent: str | None, secure: bool
) -> None:
    web.app.state.gateway.settings = GatewaySettings(trust_forwarded_proto=trusted)  # type: ignore[attr-defined]
    cookie = web.get("/", headers={"X-Forwarded-Proto": sent} if sent else None).headers["set-cookie"]
    assert ("Secure" in cookie) is secure


def test_over_tls_itself_the_cookie_is_secure(web: TestClient) -> None:
    assert "Secure" in web.get("https://testserver/").headers["set-cookie"]


def test_the_page_of_the_api_is_there_only_when_the_api_may_be_described(web: TestClient) -> None:
    assert web.get("/docs").text == "<p>routes</p>"
    web.app.openapi_url = None  # type: ignore[attr-defined]
    assert web.get("/docs").status_code == 404


@pytest.mark.parametrize(("name", "kind"), [("chat.js", "text/javascript"), ("look.css", "text/css")])
def test_files_have_their_types(web: TestClient, name: str, kind: str) -> None:
    assert web.get(f"/static/{name}").headers["content-type"].startswith(kind)


OUTSIDE = [
    "/static/../secret.txt",
    "/static/%2e%2e/secret.txt",
    "/static/nothing.js",
    "/static/",
    "/annotate",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_what_is_not_of_the_pages_is_not_there(web: TestClient, path: str) -> None:
    answer = web.get(path)
    assert answer.status_code == 404
    assert "secret" not in answer.text.replace("secret.txt", "")
