"""A body is JSON as it is, and no longer than the cap: by its announced length, else by counting."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Message, Receive

from serve.errors import BadField, NotJson, TooLarge


class BodyCap:
    """Refuses with 413 or 415 before the application sees the request. A body of unknown length is read here first."""

    def __init__(self, most: int) -> None:
        self.most = most

    async def checked(self, headers: Mapping[bytes, bytes], receive: Receive) -> Receive:
        """What gives the body. Raises BadField, TooLarge or NotJson."""
        announced = headers.get(b"content-length")
        if announced is not None:
            try:
                size = int(announced)
            except ValueError as error:
                raise BadField("Content-Length", "is not a number") from error
            self._check(size)
            if size:
                _check_kind(headers)
        elif b"transfer-encoding" in headers:
            receive = await self._counted(receive)
            _check_kind(headers)
        return receive

    def _check(self, size: int) -> None:
        if size > self.most:
            raise TooLarge(f"the body is over {self.most} bytes")

    async def _counted(self, receive: Receive) -> Receive:
        """Read the whole body and give it again."""
        parts: list[Message] = []
        size, more = 0, True
        while more:
            message = await receive()
            parts.append(message)
            size += len(message.get("body", b""))
            self._check(size)
            more = bool(message.get("more_body", False))

        async def again() -> Message:
            return parts.pop(0) if parts else await receive()

        return again


def _check_kind(headers: Mapping[bytes, bytes]) -> None:
    """A form or plain text is what a browser sends to another site unasked. Without a type it passes."""
    if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise NotJson("Content-Encoding: a body is taken as it is, not compressed", param="Content-Encoding")
    kind = headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
    if kind != b"application/json" and not (kind.startswith(b"application/") and kind.endswith(b"+json")):
        raise NotJson("Content-Type: must be application/json", param="Content-Type")
