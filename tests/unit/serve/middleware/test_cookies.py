"""Of the Cookie header Heed's own cookie is left, and only as Heed gave it out."""

from __future__ import annotations

import pytest

from serve.middleware.cookies import own_cookie


def left(*cookies: bytes) -> list[tuple[bytes, bytes]]:
    """The headers that the application sees."""
    headers = [(b"host", b"localhost"), *((b"cookie", cookie) for cookie in cookies)]
    return list(own_cookie({"type": "http", "headers": headers})["headers"])[1:]


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
def test_only_our_cookie_is_left(sent: bytes, kept: bytes | None) -> None:
    assert left(sent) == ([] if kept is None else [(b"cookie", kept)])


def test_without_a_cookie_nothing_changes() -> None:
    assert left() == []
