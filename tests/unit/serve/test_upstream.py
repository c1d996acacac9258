"""An answer that has begun: read or pushed, reshaped or not, given back once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import EngineUnreachable
from serve.upstream import Upstream
from tests.unit.serve.line import Line
from tests.unit.serve.raw_engine import CHUNKED, END, chunk

Reshape = Callable[[bytes], bytes]


class Asked:
    """An upstream over a connection that the test feeds."""

    def __init__(self, reshape: Reshape | None = None, data: bytes = b"") -> None:
        self.line = Line()
        self.exchange = self.line.ask()
        self.released = 0
        self.upstream = Upstream(self.exchange, "base", self.release, data=data, reshape=reshape)

    def release(self) -> None:
        self.released += 1

    def push(self) -> tuple[list[bytes], list[bool]]:
        """What was pushed, and at each end whether it was broken."""
        got: list[bytes] = []
        ends: list[bool] = []
        self.upstream.stream(got.append, lambda: ends.append(self.exchange.broken))
        return got, ends


def only_upper(data: bytes) -> bytes:
    """Leaves out what is not upper case; often nothing is left."""
    return bytes(byte for byte in data if 65 <= byte <= 90)


async def test_what_came_first_is_waited_for_and_not_taken() -> None:
    asked = Asked()
    asked.line.say(CHUNKED + chunk(b"first"))
    await asked.upstream.begin()
    assert asked.upstream.data == b"first"
    got, ends = asked.push()
    asked.line.say(chunk(b"second"), END)
    assert (got, ends) == ([b"first", b"second"], [False])


async def test_what_is_left_out_is_not_taken_for_the_end() -> None:
    asked = Asked(only_upper)
    asked.line.say(CHUNKED + chunk(b"abc"))
    beginning = asyncio.ensure_future(asked.upstream.begin())
    await asyncio.sleep(0.01)
    assert not beginning.done()
    asked.line.say(chunk(b"xYz"))
    await asyncio.wait_for(beginning, 30)
    assert asked.upstream.data == b"Y"


async def test_an_answer_of_which_nothing_is_left_is_empty_at_its_end() -> None:
    asked = Asked(only_upper)
    asked.line.say(CHUNKED + chunk(b"abc") + END)
    await asyncio.wait_for(asked.upstream.begin(), 30)
    assert asked.upstream.data == b""


@given(
    st.lists(st.binary(min_size=1, max_size=9), max_size=6), st.lists(st.integers(min_value=0), max_size=6)
)
async def test_read_and_pushed_say_the_same(parts: list[bytes], places: list[int]) -> None:
    answer = CHUNKED + b"".join(map(chunk, parts)) + END
    at = [0, *sorted(place % len(answer) for place in places), len(answer)]
    pieces = [answer[low:high] for low, high in pairwise(at) if high > low]
    pulled, pushed = Asked(only_upper), Asked(only_upper)
    got, ends = pushed.push()
    for asked in (pulled, pushed):
        asked.line.say(*pieces)
    await pulled.upstream.body()
    assert pulled.upstream.data == b"".join(got) == only_upper(b"".join(parts))
    assert ends == [False]


async def test_a_break_is_told_to_both_kinds_of_readers() -> None:
    pulled, pushed = Asked(), Asked()
    _, ends = pushed.push()
    for asked in (pulled, pushed):
        asked.line.say(CHUNKED + chunk(b"a"))
        asked.line.break_off()
    with pytest.raises(EngineUnreachable):
        await pulled.upstream.body()
    assert ends == [True]


@pytest.mark.parametrize("done", [True, False])
def test_closing_before_the_end_stops_the_engine_unless_all_was_said(done: bool) -> None:
    asked = Asked()
    got, ends = asked.push()
    asked.line.say(CHUNKED + chunk(b"a"))
    asked.upstream.pause()
    asked.upstream.close(done=done)
    assert asked.line.socket.aborted is not done
    assert asked.released == 1
    if done:
        asked.line.say(END)
        assert asked.line.idle == [asked.line.connection]
    assert (got, ends) == ([b"a"], [])


def test_the_engine_waits_while_it_is_paused() -> None:
    asked = Asked()
    asked.push()
    asked.upstream.pause()
    assert not asked.line.socket.reading
    asked.upstream.resume()
    assert asked.line.socket.reading


async def test_without_an_exchange_what_it_has_is_all() -> None:
    made = [Upstream(None, "base", lambda: None, data=b"all") for _ in range(2)]
    assert [await made[0].read() for _ in range(2)] == [b"all", b""]
    got: list[bytes] = []
    ends: list[None] = []
    made[1].stream(got.append, lambda: ends.append(None))
    made[1].pause()
    made[1].resume()
    made[1].close(done=True)
    assert (got, len(ends)) == ([b"all"], 1)
