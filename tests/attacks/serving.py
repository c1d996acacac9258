"""A real gateway on a port of its own, in a thread of its own, before a fake engine that tells what reached it."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from tests.unit.serve.fake_engine import FakeEngine, fake_engine
from tests.unit.serve.running import running

ADMIN = "k-of-the-admin-" + "0" * 32
THREAD = "gateways"
CANARY = "canary-7f3d0a"  # stands for a user's words and secrets: it may be in no log
GOOD: dict[str, Any] = {"model": "heed", "messages": [{"role": "user", "content": "hi"}]}


def least_seconds(ask: Callable[[], None]) -> float:
    """CPU seconds of the gateways' thread in the quickest of three. Other threads count for nothing."""
    (thread,) = (one for one in threading.enumerate() if one.name == THREAD)
    assert thread.ident is not None
    clock = time.pthread_getcpuclockid(thread.ident)

    def once() -> float:
        began = time.clock_gettime(clock)
        ask()
        return time.clock_gettime(clock) - began

    return min(once() for _ in range(3))


def slowness() -> float:
    """How many times as long this machine takes to read JSON as the one on which bounds were set, which took 0.03 s of
    CPU for this; 1 at least.
    """
    text = "[" + "[]," * 250_000 + "[]]"

    def once() -> float:
        began = time.thread_time()
        json.loads(text)
        return time.thread_time() - began

    return max(1.0, min(once() for _ in range(5)) / 0.03)


@dataclass
class Answer:
    """One answer as it came over the wire."""

    raw: bytes
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def __post_init__(self) -> None:
        head, _, self.body = self.raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1]) if first.startswith("HTTP/") else 0
        self.headers = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
        if self.header("transfer-encoding") == "chunked":
            self.body = _joined(self.body)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str | None, str]:
        """Status, field and code; fails when the body is not of the contract's shape."""
        told = self.json["error"]
        assert told.keys() == {"message", "type", "param", "code"}, told
        assert isinstance(told["message"], str)
        assert len(told["message"]) < 1000, "a client's bytes come back to it in bulk"
        return self.status, told["param"], told["code"]

    def header(self, name: str) -> str | None:
        return dict(self.headers).get(name)


def _joined(chunks: bytes) -> bytes:
    """The body of a chunked answer that has come to its end; fails when it has not."""
    body = b""
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert rest == b"\r\n", rest
            return body
        body, chunks = body + rest[:length], rest[length + 2 :]
    raise AssertionError("an answer in chunks broke off")


@dataclass
class Served:
    """The gateway's ports, its engine, and all that was logged."""

    port: int  # no key is configured
    keyed: int  # the same gateway with ADMIN as its only key
    engine: FakeEngine
    logged: list[str]
    folder: Path  # the data directory

    def raw(
        self, data: bytes, *, port: int | None = None, seconds: float = 60.0, leaving: bool = False
    ) -> bytes:
        """All that comes back until the gateway closes; ``leaving``: nothing more is going to come."""
        with socket.create_connection(("127.0.0.1", port or self.port), timeout=seconds) as connection:
            got = []
            try:
                connection.sendall(data)
                if leaving:
                    connection.shutdown(socket.SHUT_WR)
            except OSError as error:  # it closed before it had read all: what it said counts
                if not isinstance(error, ConnectionError) and error.errno != errno.ENOTCONN:
                    raise
            with suppress(ConnectionError):
                while piece := connection.recv(65536):
                    got.append(piece)
            return b"".join(got)

    def ask(
        self, method: str, path: str, body: Any = None, *, headers: str = "", port: int | None = None
    ) -> Answer:
        """One well-formed request. ``body``: bytes as they are, anything else as JSON; ``headers``: whole lines."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        kind = (
            "" if "content-type" in headers.lower() or body is None else "Content-Type: application/json\r\n"
        )
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{kind}{headers}"
        size = f"Content-Length: {len(data)}\r\n" if body is not None else ""
        return Answer(self.raw(f"{head}{size}\r\n".encode("latin-1") + data, port=port))

    def chat(self, **more: Any) -> Answer:
        """A chat that is good but for ``more``."""
        return self.ask("POST", "/v1/chat/completions", {**GOOD, **more})

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """Within, nothing may reach the engine; after it, the gateway chats."""
        before = len(self.engine.seen)
        yield
        assert self.engine.seen[before:] == []
        assert self.chat().status == 200


class Ear(logging.Handler):
    """Every line as it would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def serving(folder: Path, redis_url: str) -> Iterator[Served]:
    """Both gateways and the engine, in one thread."""
    made: list[Served] = []
    loop = uvloop.new_event_loop()  # as in production
    ready, stop = threading.Event(), asyncio.Event()
    ear = Ear()

    async def serve() -> None:
        async with AsyncExitStack() as held:
            engine = await held.enter_async_context(fake_engine())
            ports = []
            for more in ({}, {"admin_key": ADMIN, "subject_rate": 0.0}):
                gateway = running(folder, engines=[engine.url], redis_url=redis_url, **more)
                ports.append(int((await held.enter_async_context(gateway)).url.rpartition(":")[2]))
            made.append(Served(*ports, engine, ear.lines, folder))
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            ready.set()
            loop.close()

    root = logging.getLogger()
    root.addHandler(ear)
    thread = threading.Thread(target=run, name=THREAD)
    thread.start()
    try:
        assert ready.wait(180)
        assert made, "the gateways did not start"
        yield made[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(180)
        root.removeHandler(ear)
