"""On every answer: security headers, and a request id of its own, which SDKs show as ``_request_id``."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Message, Send

from feedback.nonces import unique

PLAIN = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
}


def request_id() -> dict[str, str]:
    """The header; never the client's own id."""
    return {"x-request-id": f"req_{unique(16).hex()}"}


def lines_of(headers: Mapping[str, str]) -> bytes:
    """As they stand in a head."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode()


def heading(send: Send) -> Send:
    """``send`` that adds ``PLAIN`` and the id; what pages need besides (CSP) is set where they are served."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            ours = [(name.encode(), value.encode()) for name, value in {**PLAIN, **request_id()}.items()]
            message["headers"] = [*message["headers"], *ours]
        await send(message)

    return sending
