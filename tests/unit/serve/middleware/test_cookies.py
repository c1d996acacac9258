"""Of the Cookie header Heed's own cookie is left, and only as Heed gave it out."""

from __future__ import annotations

import pytest
from starlette.types import Receive, Scope, Send

from serve.middleware.cookies import OwnCookie


async def left(*cookies: bytes) -> list[tuple[bytes, bytes]]:
    """The headers that the application sees."""
    seen: list[tuple[bytes, bytes]] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.extend(scope["headers"])

    async def nothing(*_: object) -> None:
        return None

    headers = [(b"host", b"localhost"), *((b"cookie", cookie) for cookie in cookies)]
    await OwnCookie(app)({"type": "http", "headers": headers}, nothing, nothing)  # type: ignore[arg-type]
    return seen[1:]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"heed_user=Zm9v-_x", b"heed_user=Zm9v-_x"),
        (b"a=b; heed_user=x ;c=d", b"heed_user=x"),
        (b'_xsrf="2|1:0|x"; heed_user=x', b"heed_user=x"),
        (b"heed_user=x; heed_user=y", b"heed_user=x"),
        (b'heed_user="x"', None),
        (b"heed_user=" + b"x" * 257, None),
        (b"not_heed_user=x", None),
        (b"a=heed_user=x", None),
        (b"heed_user=\xff", None),
        (b"", None),
    ],
)
async def test_only_our_cookie_is_left(sent: bytes, kept: bytes | None) -> None:
    assert await left(sent) == ([] if kept is None else [(b"cookie", kept)])


async def test_without_a_cookie_nothing_changes() -> None:
    assert await left() == []
