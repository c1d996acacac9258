"""An engine's answer that has begun, whatever the way in which it comes."""

from __future__ import annotations

from collections.abc import Callable

from serve.exchange import Exchange

Reshape = Callable[[bytes], bytes]


class Upstream:
    """Bytes of one engine; ``close`` gives back the connection and the counts.

    ``data`` is what came first. ``reshape`` turns what an engine sends into what it would have sent for a chat; without
    an exchange, ``data`` is all.
    """

    def __init__(
        self,
        exchange: Exchange | None,
        served: str,
        release: Callable[[], None],
        *,
        data: bytes = b"",
        reshape: Reshape | None = None,
    ) -> None:
        self.served = served  # the model's name there
        self.data = data
        self._exchange, self._release, self._reshape = exchange, release, reshape

    async def read(self) -> bytes:
        """The next bytes; empty at the end. Raises EngineUnreachable when the answer broke off."""
        data, self.data = self.data, b""
        while not data and self._exchange is not None:
            came = await self._exchange.read()
            if not came:
                break
            data = self._reshape(came) if self._reshape else came
        return data

    async def begin(self) -> None:
        """Wait for the first bytes, without taking them. Raises EngineUnreachable."""
        self.data = await self.read()

    async def body(self) -> None:
        """Wait for all of them. Raises EngineUnreachable."""
        parts = []
        while data := await self.read():
            parts.append(data)
        self.data = b"".join(parts)

    def stream(self, sink: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        """Push what comes into ``sink``, at once, and call ``ended`` when no more comes."""
        data, self.data = self.data, b""
        if data:
            sink(data)
        if self._exchange is None:
            ended()
        else:
            reshape = self._reshape
            self._exchange.stream(sink if reshape is None else lambda came: sink(reshape(came)), ended)

    def pause(self) -> None:
        """Let the engine wait."""
        if self._exchange is not None:
            self._exchange.pause()

    def resume(self) -> None:
        """Read on."""
        if self._exchange is not None:
            self._exchange.resume()

    def close(self, *, done: bool = False) -> None:
        """Safe to call twice. Before the end of the answer it makes the engine stop generating; ``done``: nothing
        of weight comes any more, so the connection may be used again.
        """
        if self._exchange is not None:
            self._exchange.leave_to_end() if done else self._exchange.close()
        self._release()
