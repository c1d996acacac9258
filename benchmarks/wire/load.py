"""Load that costs little: raw sockets, and answers that are counted, not parsed. A process of its own.

    python -m benchmarks.wire.load < plan.json

The plan names a kind of load with its settings, and the targets; figures go to standard output as JSON.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, cast

import orjson
import uvloop

from benchmarks.wire.answer import Reading, Target, request
from benchmarks.wire.usage import cpu_seconds, memory_bytes

WORDS = 30  # max_tokens of an ordinary answer: 34 events from an engine
LEAST = 30  # events of such an answer that count as whole: some peers merge the first or drop the last
Kind: TypeAlias = Callable[..., Coroutine[Any, Any, dict[str, Any]]]
SETTLING = 2.0  # seconds before a window begins


class Client(asyncio.Protocol):
    """One connection that sends a request when told and says when the answer is over."""

    def __init__(self, target: Target, user: str, max_tokens: int, over: Callable[[Client], None]) -> None:
        self.target = target
        self.reading = Reading()
        self.events = 0  # of all answers
        self._asked = request(target, user=user, max_tokens=max_tokens)
        self._over = over
        self._transport: asyncio.Transport | None = None
        self._waiting = False

    async def ask(self) -> None:
        """Send one request, over a new connection where the last one was closed."""
        if self._transport is None or self._transport.is_closing():
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: self, "127.0.0.1", self.target.port)
        self.ask_again()

    def ask_again(self) -> None:
        """Send one request over the connection that is there."""
        assert self._transport is not None
        self.reading, self._waiting = Reading(), True
        self._transport.write(self._asked)

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def streaming(self) -> bool:
        """An answer has begun and is not over."""
        return self._waiting and self.reading.events > 0

    def close(self) -> None:
        self._waiting = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.events += self.reading.feed(data)
        if self.reading.over and self._waiting:
            self._waiting = False
            if not self.reading.ok and self._transport is not None:
                self._transport.abort()
            self._over(self)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        if self._waiting:
            self._waiting = False
            self._over(self)


class Closed:
    """A closed loop: so many clients of one target, each asking anew as soon as its answer is over."""

    def __init__(self, target: Target, streams: int, max_tokens: int, least: int = LEAST) -> None:
        self.clients = [
            Client(target, f"guest-{number}", max_tokens, self._answered) for number in range(streams)
        ]
        self.done = self.failed = 0
        self._least = min(least, max_tokens)
        self._asking, self._pending = False, 0
        self._idle = asyncio.Event()
        self._reopening: set[asyncio.Task[None]] = set()

    def _answered(self, client: Client) -> None:
        whole = client.reading.whole(self._least)
        self.done += whole
        self.failed += not whole
        if not self._asking:
            self._less()
        elif client.open:
            client.ask_again()
        else:
            task = asyncio.get_running_loop().create_task(client.ask())
            self._reopening.add(task)
            task.add_done_callback(self._reopening.discard)

    def _less(self) -> None:
        self._pending -= 1
        if not self._pending:
            self._idle.set()

    async def start(self) -> None:
        """All clients ask."""
        self._asking, self._pending = True, len(self.clients)
        self._idle.clear()
        await asyncio.gather(*(client.ask() for client in self.clients))

    async def stop(self, within: float = 30.0) -> None:
        """Let what is under way end; nothing new is asked."""
        self._asking = False
        await asyncio.wait_for(self._idle.wait(), within)

    @property
    def events(self) -> int:
        return sum(client.events for client in self.clients)

    def close(self) -> None:
        self._asking = False
        for client in self.clients:
            client.close()


def once(connection: socket.socket, asked: bytes) -> tuple[float, float]:
    """Seconds to the first byte and to the end of one answer. Raises AssertionError when it is not whole."""
    reading, first = Reading(), 0.0
    began = time.perf_counter()
    connection.sendall(asked)
    while not reading.over:
        data = connection.recv(262_144)
        first = first or time.perf_counter() - began
        assert data, "the connection was closed in the midst of an answer"
        reading.feed(data)
    took = time.perf_counter() - began
    assert reading.whole(LEAST), f"an answer with {reading.events} events was not whole"
    return first, took


@contextmanager
def connected(targets: Sequence[Target]) -> Iterator[dict[str, socket.socket]]:
    """A connection to each."""
    sockets = {one.name: socket.create_connection(("127.0.0.1", one.port), timeout=60) for one in targets}
    try:
        for one in sockets.values():
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sockets
    finally:
        for one in sockets.values():
            one.close()


def added(targets: Sequence[Target], *, requests: int, warm: int = 100) -> dict[str, Any]:
    """One stream at a time, one to each target in turn: seconds to first byte and to the end, by target."""
    asked = {one.name: request(one, user="guest", max_tokens=WORDS) for one in targets}
    times: dict[str, list[tuple[float, float]]] = {one.name: [] for one in targets}
    with connected(targets) as sockets:
        for number in range(warm + requests):
            for name, kept in times.items():
                took = once(sockets[name], asked[name])
                if number >= warm:
                    kept.append(took)
    return {
        name: {"first": [first for first, _ in took], "whole": [whole for _, whole in took]}
        for name, took in times.items()
    }


async def rate(
    targets: Sequence[Target],
    *,
    streams: int,
    rounds: int,
    seconds: float,
    settling: float = 0.5,
    max_tokens: int = WORDS,
    least: int = LEAST,
) -> dict[str, Any]:
    """A closed loop on each target in turn, round after round; answers of ``least`` events count as whole."""
    loops = {one.name: Closed(one, streams, max_tokens, least) for one in targets}
    found: dict[str, dict[str, Any]] = {
        one.name: {"done": [], "failed": 0, "events": 0, "seconds": 0.0, "cpu": 0.0} for one in targets
    }
    for turn in range(-1, rounds):  # the first warms up
        for one in targets:
            loop, told = loops[one.name], found[one.name]
            await loop.start()
            await asyncio.sleep(settling)
            began, done, events, cpu = time.monotonic(), loop.done, loop.events, cpu_seconds(one.pid)
            await asyncio.sleep(seconds if turn >= 0 else 0.5)
            took, done, events = time.monotonic() - began, loop.done - done, loop.events - events
            cpu = cpu_seconds(one.pid) - cpu
            await loop.stop()
            if turn >= 0:
                told["done"].append(round(done / took, 1))
                told["events"] += events
                told["seconds"] += took
                told["cpu"] += cpu
            told["failed"] = loop.failed
    for loop in loops.values():
        loop.close()
    return found


async def chunks(
    targets: Sequence[Target], *, streams: int, seconds: float, max_tokens: int
) -> dict[str, Any]:
    """CPU seconds and events of a window, on each target after the other, at the engine's pace."""
    found = {}
    for one in targets:
        loop = Closed(one, streams, max_tokens)
        await loop.start()
        await asyncio.sleep(SETTLING)
        began, cpu, events = time.monotonic(), cpu_seconds(one.pid), loop.events
        await asyncio.sleep(seconds)
        took, cpu, events = time.monotonic() - began, cpu_seconds(one.pid) - cpu, loop.events - events
        loop.close()
        found[one.name] = {"cpu": cpu, "events": events, "seconds": took, "failed": loop.failed}
        await asyncio.sleep(0.5)
    return found


async def held(
    targets: Sequence[Target], *, streams: int, max_tokens: int, opened_per_second: float, within: float
) -> dict[str, Any]:
    """Many slow streams at once: how many end well, and what memory the target takes while all are open."""
    found = {}
    for one in targets:
        warm = Closed(one, 32, 1)
        await warm.start()
        await warm.stop()
        warm.close()
        await asyncio.sleep(1.0)
        held_now = Held(one, streams, max_tokens)
        found[one.name] = await held_now.run(opened_per_second, within)
    return found


class Held:
    """Streams of one target that are opened one after the other and stay open."""

    def __init__(self, target: Target, streams: int, max_tokens: int) -> None:
        self._pid, self._least = target.pid, max_tokens
        self._clients = [Client(target, f"guest-{n}", max_tokens, self._ended) for n in range(streams)]
        self._ended_well = self._ended_badly = 0

    def _ended(self, client: Client) -> None:
        whole = client.reading.whole(self._least)
        self._ended_well += whole
        self._ended_badly += not whole

    async def run(self, opened_per_second: float, within: float) -> dict[str, Any]:
        """Open them all, watch until all have ended or the time is up."""
        before = peak = memory_bytes(self._pid)
        began, cpu, most_open = time.monotonic(), cpu_seconds(self._pid), 0
        opening = asyncio.create_task(self._open(opened_per_second))
        while self._ended_well + self._ended_badly < len(self._clients) and time.monotonic() - began < within:
            await asyncio.sleep(0.5)
            now_open = sum(client.streaming for client in self._clients)
            most_open, peak = max(most_open, now_open), max(peak, memory_bytes(self._pid))
        refused = await opening
        for client in self._clients:
            client.close()
        return {
            "before": before,
            "peak": peak,
            "most_open": most_open,
            "errors": len(self._clients) - self._ended_well,
            "refused": refused,
            "seconds": time.monotonic() - began,
            "cpu": cpu_seconds(self._pid) - cpu,
        }

    async def _open(self, per_second: float) -> int:
        """How many could not even be opened."""
        began, refused = time.monotonic(), 0
        for number, client in enumerate(self._clients):
            await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
            try:
                await client.ask()
            except OSError:
                refused += 1
                self._ended_badly += 1
        return refused


def measure(plan: dict[str, Any]) -> dict[str, Any]:
    """What the plan asks for."""
    targets = [Target(**told) for told in plan["targets"]]
    settings = plan["settings"]
    if plan["kind"] == "added":
        return added(targets, **settings)
    kinds: dict[str, Kind] = {"rate": rate, "chunks": chunks, "held": held}
    found: dict[str, Any] = uvloop.run(kinds[plan["kind"]](targets, **settings))
    return found


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(measure(orjson.loads(sys.stdin.buffer.read()))))
