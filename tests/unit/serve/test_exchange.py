"""One exchange over one connection, fed by hand: any cuts of the bytes, both ways of reading, every way of ending."""

from __future__ import annotations

import asyncio
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.errors import EngineUnreachable
from serve.exchange import HELD_BYTES, Exchange
from tests.unit.serve.line import Line
from tests.unit.serve.raw_engine import CHUNKED, EMPTY, END, chunk


class Reader:
    """Takes what is pushed."""

    def __init__(self, exchange: Exchange) -> None:
        self.pieces: list[bytes] = []
        self.ends = 0
        exchange.stream(self.pieces.append, self.end)

    def end(self) -> None:
        self.ends += 1


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[low:high] for low, high in pairwise(at) if high > low]


bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
places = st.lists(st.integers(min_value=0), max_size=15)


def test_a_request_is_sent_as_it_is_and_the_connection_is_free_after_its_answer() -> None:
    line = Line()
    exchange = line.ask()
    assert line.socket.written == b"GET / HTTP/1.1\r\n\r\n"
    assert not line.connection.used
    line.say(EMPTY)
    assert (exchange.status, exchange.over, exchange.broken) == (200, True, False)
    assert line.idle == [line.connection]
    assert line.connection.used


@given(bodies, places, st.booleans(), st.integers(200, 599).filter(lambda status: status not in {204, 304}))
def test_where_the_bytes_were_cut_makes_no_difference(
    parts: list[bytes], places: list[int], chunked: bool, status: int
) -> None:
    body = b"".join(parts)
    if chunked:
        answer = b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n%b" % (
            status, b"".join(map(chunk, parts)) + END,
        )  # fmt: skip
    else:
        answer = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
    line = Line()
    exchange = line.ask()
    reader = Reader(exchange)
    line.say(*cut(answer, places))
    assert b"".join(reader.pieces) == body
    assert all(reader.pieces)
    assert (exchange.status, exchange.broken, reader.ends) == (status, False, 1)
    assert line.idle == [line.connection]


def test_a_body_of_single_bytes_arrives_byte_by_byte() -> None:
    line = Line()
    reader = Reader(line.ask())
    answer = CHUNKED + chunk(b"abc") + END
    line.say(*(answer[at : at + 1] for at in range(len(answer))))
    assert reader.pieces == [b"a", b"b", b"c"]
    assert reader.ends == 1


def test_several_chunks_of_one_read_are_one_piece() -> None:
    line = Line()
    reader = Reader(line.ask())
    line.say(CHUNKED + chunk(b"a") + chunk(b"b"), chunk(b"c") + chunk(b"d") + END)
    assert reader.pieces == [b"ab", b"cd"]


@given(bodies, st.integers(min_value=0))
def test_what_was_held_is_pushed_first_and_the_rest_as_it_comes(parts: list[bytes], switch: int) -> None:
    line = Line()
    exchange = line.ask()
    pieces = [CHUNKED, *map(chunk, parts), END]
    before = switch % (len(pieces) + 1)
    line.say(*pieces[:before])
    reader = Reader(exchange)
    line.say(*pieces[before:])
    assert b"".join(reader.pieces) == b"".join(parts)
    assert reader.ends == 1


@given(bodies, places)
async def test_pulling_gives_all_of_the_body(parts: list[bytes], places: list[int]) -> None:
    line = Line()
    exchange = line.ask()
    reading = asyncio.ensure_future(exchange.body())
    for piece in cut(CHUNKED + b"".join(map(chunk, parts)) + END, places):
        line.say(piece)
        await asyncio.sleep(0)
    assert await reading == b"".join(parts)


@pytest.mark.parametrize(
    "said",
    [b"", b"HTTP/1.1 200 O", CHUNKED, CHUNKED + chunk(b"abc"), CHUNKED + b"5\r\nab", CHUNKED + b"0\r\n"],
)
async def test_an_answer_that_stops_before_its_end_is_broken(said: bytes) -> None:
    line = Line()
    exchange = line.ask()
    if said:
        line.say(said)
    line.break_off()
    assert (exchange.over, exchange.broken, exchange.closed) == (True, True, False)
    assert line.gone == [line.connection]
    assert not line.idle
    with pytest.raises(EngineUnreachable):
        await exchange.body()


async def test_what_came_before_the_break_can_still_be_read() -> None:
    line = Line()
    exchange = line.ask()
    line.say(CHUNKED + chunk(b"abc"))
    line.break_off()
    await exchange.head()
    assert await exchange.read() == b"abc"
    with pytest.raises(EngineUnreachable, match="the engine broke off"):
        await exchange.read()


async def test_one_who_waits_for_the_head_learns_of_the_break() -> None:
    line = Line()
    waiting = asyncio.ensure_future(line.ask().head())
    await asyncio.sleep(0)
    line.break_off()
    with pytest.raises(EngineUnreachable, match="before it answered"):
        await waiting


@pytest.mark.parametrize(
    "junk",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        CHUNKED + b"zz\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 500 Oops\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nab",
    ],
)
def test_what_is_not_one_http_answer_breaks_the_exchange_and_ends_the_connection(junk: bytes) -> None:
    line = Line()
    exchange = line.ask()
    reader = Reader(exchange)
    line.say(junk)
    assert (exchange.broken, reader.ends) == (True, 1)
    assert line.socket.aborted
    assert not line.idle


@pytest.mark.parametrize("unasked", [EMPTY, b"H", b"junk\r\n\r\n"])
def test_bytes_nobody_asked_for_end_the_connection(unasked: bytes) -> None:
    line = Line()
    line.ask()
    line.say(EMPTY)
    line.say(unasked)
    assert line.socket.aborted


def test_news_of_the_answer_to_come_are_not_the_answer() -> None:
    line = Line()
    exchange = line.ask()
    line.say(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert exchange.status == 0
    line.say(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + EMPTY)
    assert (exchange.status, exchange.broken) == (200, False)
    assert line.idle == [line.connection]


def test_a_connection_that_the_engine_will_close_is_not_kept() -> None:
    line = Line()
    exchange = line.ask()
    line.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na")
    assert (exchange.over, exchange.broken) == (True, False)
    assert line.socket.closed
    assert not line.idle


def test_a_second_answer_does_not_reach_the_first_reader() -> None:
    line = Line()
    first = Reader(line.ask())
    line.say(CHUNKED + chunk(b"one") + END)
    second = Reader(line.ask())
    line.say(CHUNKED + chunk(b"two") + END)
    assert (first.pieces, second.pieces) == ([b"one"], [b"two"])
    assert (first.ends, second.ends) == (1, 1)


def test_with_nobody_reading_the_engine_is_made_to_wait() -> None:
    line = Line()
    exchange = line.ask()
    line.say(CHUNKED + chunk(b"x" * HELD_BYTES))
    assert line.socket.reading
    line.say(chunk(b"x"))
    assert not line.socket.reading
    reader = Reader(exchange)
    assert line.socket.reading
    assert [len(piece) for piece in reader.pieces] == [HELD_BYTES + 1]


async def test_reading_lets_the_engine_go_on() -> None:
    line = Line()
    exchange = line.ask()
    line.say(CHUNKED + chunk(b"x" * (HELD_BYTES + 1)))
    assert not line.socket.reading
    assert len(await exchange.read()) == HELD_BYTES + 1
    assert line.socket.reading
    line.say(chunk(b"x" * HELD_BYTES))  # counted afresh
    assert line.socket.reading


def test_a_pause_is_undone_once_and_by_the_end_of_the_answer() -> None:
    line = Line()
    exchange = line.ask()
    reader = Reader(exchange)
    line.say(CHUNKED)
    exchange.pause()
    exchange.pause()
    assert not line.socket.reading
    exchange.resume()
    exchange.resume()
    assert line.socket.reading
    exchange.pause()
    line.say(END)  # was read already
    assert line.socket.reading
    assert reader.ends == 1
    exchange.pause()  # no longer its connection
    assert line.socket.reading


def test_silence_is_the_engines_only_while_it_is_listened_to() -> None:
    line = Line()
    assert line.connection.silent_since() == math.inf
    exchange = line.ask()
    exchange.at = 5.0
    assert line.connection.silent_since() == 5.0
    exchange.pause()
    assert line.connection.silent_since() == math.inf
    exchange.resume()
    assert line.connection.silent_since() > 5.0
    line.say(EMPTY)
    assert line.connection.silent_since() == math.inf


@pytest.mark.parametrize("said", [b"", CHUNKED, CHUNKED + chunk(b"abc")])
async def test_closing_before_the_end_ends_the_connection_and_wakes_the_reader(said: bytes) -> None:
    line = Line()
    exchange = line.ask()
    if said:
        line.say(said)
    waiting = asyncio.ensure_future(exchange.body())
    await asyncio.sleep(0)
    exchange.close()
    exchange.close()
    assert line.socket.aborted
    with pytest.raises(EngineUnreachable):
        await waiting
    line.break_off()  # the socket tells of it later
    assert exchange.closed


def test_closing_after_the_end_leaves_the_connection_to_others() -> None:
    line = Line()
    exchange = line.ask()
    line.say(EMPTY)
    exchange.close()
    assert not line.socket.aborted
    assert not exchange.broken
    assert line.idle == [line.connection]


@pytest.mark.parametrize("rest", [b"", chunk(b"more"), chunk(b"more") + END])
def test_the_sink_may_close_the_exchange(rest: bytes) -> None:
    line = Line()
    exchange = line.ask()
    got: list[bytes] = []
    ends: list[None] = []

    def sink(data: bytes) -> None:
        got.append(data)
        exchange.close()

    exchange.stream(sink, lambda: ends.append(None))
    line.say(CHUNKED, chunk(b"a") + rest)
    assert len(got) == 1
    assert line.socket.aborted
    assert not line.idle
    line.break_off()
    assert not ends


def test_the_sink_may_close_the_exchange_at_what_was_held() -> None:
    line = Line()
    exchange = line.ask()
    line.say(CHUNKED + chunk(b"a"))
    ends: list[None] = []
    exchange.stream(lambda _: exchange.close(), lambda: ends.append(None))
    assert line.socket.aborted
    assert not ends


@pytest.mark.parametrize("rest", [[END], [chunk(b"more"), END]])
def test_left_to_its_end_the_connection_is_kept_and_nobody_is_told(rest: list[bytes]) -> None:
    line = Line()
    exchange = line.ask()
    reader = Reader(exchange)
    line.say(CHUNKED + chunk(b"a"))
    exchange.pause()
    exchange.leave_to_end()
    assert line.connection.unread
    line.say(*rest)
    assert line.idle == [line.connection]
    assert not line.connection.unread
    assert (reader.pieces, reader.ends) == ([b"a"], 0)


@pytest.mark.parametrize("pushed", [True, False])
async def test_an_engine_that_is_given_up_is_a_break_for_the_reader(pushed: bool) -> None:
    line = Line()
    exchange = line.ask()
    ends: list[None] = []
    line.say(CHUNKED)
    if pushed:
        exchange.stream(lambda _: None, lambda: ends.append(None))
    line.connection.break_off()
    line.connection.break_off()
    assert line.socket.aborted
    assert (exchange.broken, exchange.closed) == (True, True)
    assert len(ends) == int(pushed)
    with pytest.raises(EngineUnreachable):
        await exchange.read()


def test_pushing_after_the_end_tells_of_the_end_once() -> None:
    for last, broken in ((END, False), (b"zz\r\n", True)):
        line = Line()
        exchange = line.ask()
        line.say(CHUNKED + chunk(b"a"))
        line.say(last)
        reader = Reader(exchange)
        assert (reader.pieces, reader.ends, exchange.broken) == ([b"a"], 1, broken)


async def test_a_reader_that_is_cancelled_leaves_the_exchange_to_the_next() -> None:
    line = Line()
    exchange = line.ask()
    waiting = asyncio.ensure_future(exchange.read())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    line.say(CHUNKED + chunk(b"a") + END)
    assert await exchange.body() == b"a"


def test_a_sink_that_fails_breaks_nothing_else() -> None:
    """The loop closes the connection then, as for every protocol that raises."""
    line = Line()
    exchange = line.ask()
    ends: list[Any] = []

    def fails(_: bytes) -> None:
        raise ZeroDivisionError

    exchange.stream(fails, lambda: ends.append(exchange.broken))
    line.say(CHUNKED)
    with pytest.raises(ZeroDivisionError):
        line.say(chunk(b"a"))
    line.break_off()
    assert ends == [True]
