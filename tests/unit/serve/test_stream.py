"""Between one engine and one client: whatever happens, in whatever order, the stream comes to its end."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.chat_request import ChatRequest
from serve.direct import Direct
from serve.record import Record
from serve.routing import Plan
from serve.sse import DONE, Rename
from serve.stream import Relay
from serve.upstream import Upstream
from tests.unit.serve.line import Line
from tests.unit.serve.raw_engine import CHUNKED, END, chunk


class Client:
    """The client's side; ``slow`` after ``room`` bytes until it took them."""

    def __init__(self, room: int = 2**30) -> None:
        self.taken, self.ended = b"", False
        self.waiting, self.room = 0, room

    @property
    def slow(self) -> bool:
        return self.waiting >= self.room

    def future(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()

    def write(self, data: bytes, *, last: bool = False) -> None:
        assert not self.ended
        self.ended = last
        self.taken += data
        self.waiting += len(data)


class Streaming:
    """A relay from a line to a client, running."""

    def __init__(self, room: int = 2**30) -> None:
        self.client, self.line = Client(room), Line()
        self.record = Record(ChatRequest("heed", []), Plan("heed", "base"), "chatcmpl-1", "s")
        self.rename = Rename("base", "heed", keep_usage=True)
        self.relay = Relay(cast("Direct", self.client), self.record, self.rename)
        self.exchange = self.line.ask()
        self.record.ask(self.exchange)
        self.upstream = Upstream(self.exchange, "base", lambda: None)

    async def run(self) -> asyncio.Task[None]:
        task = asyncio.ensure_future(self.relay.run(self.upstream))
        await asyncio.sleep(0)
        return task

    def take(self) -> None:
        self.client.waiting = 0
        self.relay.resume()


EVENT = b'data: {"id":"x","model":"base","choices":[{"index":0,"delta":{"content":"word"}}]}\n\n'
RENAMED = EVENT.replace(b'"base"', b'"heed"')


async def test_a_stream_is_renamed_and_kept_and_ends_when_the_engine_says_so() -> None:
    made = Streaming()
    running = await made.run()
    made.line.say(CHUNKED, chunk(EVENT[:9]), chunk(EVENT[9:] + EVENT))
    assert made.client.taken == RENAMED * 2
    made.line.say(chunk(DONE))
    await asyncio.wait_for(running, 30)
    assert made.rename.done
    assert made.record.read().text == "wordword"


async def test_an_engine_waits_for_a_slow_client_and_goes_on_when_it_took() -> None:
    made = Streaming(room=len(EVENT))
    running = await made.run()
    made.line.say(CHUNKED + chunk(EVENT))
    assert not made.line.socket.reading
    made.take()
    assert made.line.socket.reading
    made.line.say(chunk(EVENT + DONE) + END)
    await asyncio.wait_for(running, 30)
    assert made.client.taken == RENAMED * 2 + DONE


async def test_a_client_that_leaves_ends_the_stream_and_frees_the_engine() -> None:
    made = Streaming(room=1)
    running = await made.run()
    made.line.say(CHUNKED + chunk(EVENT))
    assert not made.line.socket.reading
    made.relay.leave()
    await asyncio.wait_for(running, 30)
    assert made.line.socket.aborted
    assert made.record.left


async def test_a_client_that_left_before_the_stream_began_ends_it_at_once() -> None:
    made = Streaming()
    made.relay.leave()
    await asyncio.wait_for(await made.run(), 30)
    assert made.client.taken == b""


@pytest.mark.parametrize(
    "after", [[], [chunk(DONE)], [chunk(DONE) + END]], ids=["nothing", "done", "done and the end"]
)
@pytest.mark.parametrize("together", [True, False])
async def test_an_engines_error_ends_the_stream_and_is_not_passed_on(
    after: list[bytes], together: bool
) -> None:
    """vLLM says [DONE] after an error too: that is not the end of a reply."""
    made = Streaming()
    running = await made.run()
    said = [CHUNKED + chunk(EVENT + b'data: {"error": {"message": "died"}}\n\n'), *after]
    for piece in [b"".join(said)] if together else said:
        made.line.say(piece)
    await asyncio.wait_for(running, 30)
    assert made.client.taken == RENAMED
    assert made.rename.error is not None
    assert not made.rename.done


async def test_what_came_before_it_runs_is_passed_on_first() -> None:
    made = Streaming(room=len(EVENT))
    made.line.say(CHUNKED + chunk(EVENT))
    await made.upstream.begin()
    made.line.say(chunk(EVENT))
    running = await made.run()
    assert made.client.taken == RENAMED * 2
    made.take()
    made.line.say(chunk(DONE) + END)
    await asyncio.wait_for(running, 30)


steps = st.lists(st.sampled_from(["say", "half", "take", "wait"]), max_size=12)
ENDINGS = ["done", "end", "break", "leave", "error", "junk", "given up"]


class Fed(Streaming):
    """A stream whose engine sends events as long as it is listened to."""

    DATA = EVENT * 40

    def __init__(self, room: int) -> None:
        super().__init__(room)
        self.sent = 0
        self.line.say(CHUNKED)

    async def do(self, step: str) -> None:
        most = {"say": len(EVENT), "half": len(EVENT) // 2}.get(step, 0)
        if most and self.line.socket.reading:
            self.line.say(chunk(self.DATA[self.sent : self.sent + most]))
            self.sent += most
        elif step == "take":
            self.take()
        await asyncio.sleep(0)

    def end(self, how: str) -> None:
        rest = self.DATA[self.sent : self.sent + -self.sent % len(EVENT)]
        last = {"done": chunk(rest + DONE), "end": END, "error": chunk(rest + b'data: {"error":{}}\n\n')}
        calls = {
            "leave": self.relay.leave,
            "break": self.line.break_off,
            "given up": self.line.connection.break_off,
        }
        calls.get(how, lambda: self.line.say(last.get(how, b"zz\r\n")))()


@given(steps, steps, st.sampled_from(ENDINGS), st.integers(1, 3))
async def test_every_stream_ends(before: list[str], after: list[str], ending: str, room: int) -> None:
    """Nothing waits for a call that does not come, as long as the client takes or leaves."""
    made = Fed(room * len(EVENT))
    for step in before:
        await made.do(step)
    if made.sent:
        await asyncio.wait_for(made.upstream.begin(), 30)
    running = await made.run()
    for step in after:
        await made.do(step)
    made.take()
    assert made.line.socket.reading
    assert made.client.taken == RENAMED * (made.sent // len(EVENT))
    made.end(ending)
    await asyncio.wait_for(running, 30)
    assert made.rename.done == (ending == "done")
