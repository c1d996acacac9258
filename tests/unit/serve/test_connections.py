"""Kept connections over real sockets, on both event loops: reuse, faults, silence, back-pressure."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from serve import connections as module
from serve.connections import Connections
from serve.errors import EngineUnreachable
from serve.exchange import Exchange
from tests.unit.serve.raw_engine import CHUNKED, EMPTY, END, RawEngine, Talk, chunk, raw_engine
from tests.unit.serve.running import until

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """The gateway runs on uvloop, other tests on asyncio's own."""
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


@asynccontextmanager
async def connected(engine: RawEngine | str, connect_seconds: float = 2.0) -> AsyncIterator[Connections]:
    url = engine if isinstance(engine, str) else engine.url
    made = Connections(url, connect_seconds=connect_seconds, silence_seconds=60)
    try:
        yield made
    finally:
        made.close()
        await until(lambda: not made._open)


async def ask(there: Connections, taken: Callable[[Exchange], None] = lambda _: None) -> Exchange:
    return await asyncio.wait_for(there.ask(REQUEST, taken), 30)


async def echo(talk: Talk) -> None:
    """Answers each request with its number on the connection."""
    for count in range(1000):
        await talk.asked()
        await talk.say(CHUNKED + chunk(b"%d" % count) + END)


async def test_one_connection_serves_one_ask_after_the_other() -> None:
    async with raw_engine(echo) as engine, connected(engine) as there:
        said = [await (await ask(there)).body() for _ in range(5)]
    assert said == [b"0", b"1", b"2", b"3", b"4"]
    assert len(engine.talks) == 1


async def test_asks_at_once_have_a_connection_each_and_the_last_used_is_taken_first() -> None:
    async with raw_engine(echo) as engine, connected(engine) as there:
        exchanges = await asyncio.gather(*(ask(there) for _ in range(3)))
        assert [await one.body() for one in exchanges] == [b"0"] * 3
        last = there._free[-1]
        await (await ask(there)).body()
        assert there._free[-1] is last
        assert len(there._free) == len(engine.talks) == 3


async def test_a_connection_that_the_engine_closes_is_not_used_again() -> None:
    async def closing(talk: Talk) -> None:
        await talk.asked()
        await talk.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
        await asyncio.sleep(1)

    async with raw_engine(closing) as engine, connected(engine) as there:
        assert [await (await ask(there)).body() for _ in range(2)] == [b"hi"] * 2
        assert len(engine.talks) == 2
        assert not there._free


async def test_single_bytes_on_the_wire_make_the_same_answer() -> None:
    answer = CHUNKED + chunk(b"hello ") + chunk(b"world") + END

    async def slowly(talk: Talk) -> None:
        talk.writer.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            await talk.asked()
            for at in range(len(answer)):
                await talk.say(answer[at : at + 1])
                await asyncio.sleep(0)

    async with raw_engine(slowly) as engine, connected(engine) as there:
        assert [await (await ask(there)).body() for _ in range(2)] == [b"hello world"] * 2
    assert len(engine.talks) == 1


async def test_a_status_that_is_not_200_is_told_with_its_body() -> None:
    async def refuses(talk: Talk) -> None:
        while True:
            await talk.asked()
            await talk.say(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy")

    async with raw_engine(refuses) as engine, connected(engine) as there:
        exchange = await ask(there)
        assert (exchange.status, await exchange.body()) == (503, b"busy")
        assert (await ask(there)).status == 503
    assert len(engine.talks) == 1


@pytest.mark.parametrize("reset", [True, False])
async def test_an_engine_that_closes_a_kept_connection_when_it_is_used_is_asked_once_more(
    reset: bool,
) -> None:
    async def once(talk: Talk) -> None:
        await talk.asked()
        await talk.say(EMPTY)
        await talk.asked()
        if reset:
            talk.reset()

    seen: list[Exchange] = []
    async with raw_engine(once) as engine, connected(engine) as there:
        await ask(there)
        exchange = await ask(there, seen.append)
        assert exchange.status == 200
        assert seen == [seen[0], exchange]
        assert len(engine.talks) == 2


async def test_it_is_asked_once_more_and_not_for_ever() -> None:
    refusing = False

    async def script(talk: Talk) -> None:
        await talk.asked()
        if not refusing:
            await talk.say(EMPTY)
            await talk.asked()

    async with raw_engine(script) as engine, connected(engine) as there:
        await asyncio.gather(*(ask(there) for _ in range(4)))
        refusing = True
        with pytest.raises(EngineUnreachable):
            await ask(there)
        assert len(engine.talks) == 5  # four kept ones, of which one was tried, and a fresh one
        await until(lambda: sum(talk.over for talk in engine.talks) == 2)
        assert len(there._free) == 3


async def test_what_was_answered_in_part_is_not_asked_again() -> None:
    async def breaks(talk: Talk) -> None:
        await talk.asked()
        await talk.say(EMPTY)
        await talk.asked()
        await talk.say(CHUNKED + chunk(b"some"))

    async with raw_engine(breaks) as engine, connected(engine) as there:
        await ask(there)
        exchange = await ask(there)
        with pytest.raises(EngineUnreachable):
            await exchange.body()
    assert len(engine.talks) == 1


async def test_what_the_reader_closed_is_not_asked_again() -> None:
    async def silent(talk: Talk) -> None:
        await talk.asked()
        await talk.say(EMPTY)
        await talk.asked()
        await talk.asked()

    async with raw_engine(silent) as engine, connected(engine) as there:
        await ask(there)
        with pytest.raises(EngineUnreachable):
            await ask(there, Exchange.close)
        await until(lambda: engine.talks[0].over)
        assert len(engine.talks) == 1


async def test_what_was_silent_is_given_up_and_not_asked_again_over_every_kept_connection() -> None:
    mute = False

    async def falls_silent(talk: Talk) -> None:
        while True:
            await talk.asked()
            if not mute:
                await talk.say(EMPTY)

    async with raw_engine(falls_silent) as engine, connected(engine) as there:
        await asyncio.gather(*(ask(there) for _ in range(4)))
        mute = True
        asking = [asyncio.ensure_future(ask(there)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert there.break_silent(60) == 0
        assert there.break_silent(0.04) == 2
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(one) for one in results] == [EngineUnreachable] * 2
        await until(lambda: sum(talk.over for talk in engine.talks) == 2)
        assert len(there._free) == 2


async def test_an_answer_that_falls_silent_is_broken_off_and_one_that_speaks_is_not() -> None:
    async def speaks(talk: Talk) -> None:
        await talk.asked()
        await talk.say(CHUNKED + chunk(b"a"))
        while talk.number == 1:
            await talk.say(chunk(b"b"))
            await asyncio.sleep(0.01)
        await talk.asked()

    ended: list[str] = []
    async with raw_engine(speaks) as engine, connected(engine) as there:
        for name in ("mute", "speaking"):
            exchange = await ask(there)
            exchange.stream(lambda _: None, lambda name=name: ended.append(name))  # type: ignore[misc]
            await asyncio.sleep(0.02)
            exchange.at -= 100  # seconds ago
        await asyncio.sleep(0.1)
        assert there.break_silent(60) == 1
        assert ended == ["mute"]


async def test_silence_is_that_of_all_who_wait_and_a_head_is_no_sign_of_work() -> None:
    async def heads_first(talk: Talk) -> None:
        await talk.asked()
        await talk.say(CHUNKED)
        await talk.asked()  # nothing more, until the test ends
        await talk.say(chunk(b"a"))

    async with raw_engine(heads_first) as engine, connected(engine) as there:
        assert there.silence() == 0.0  # nobody waits
        first, second = await ask(there), await ask(there)
        for exchange, seconds in ((first, 100), (second, 40)):
            exchange.at -= seconds
            exchange.asked -= seconds
        assert 100 <= there.silence() < 101  # the longest that somebody waits
        second.came(b"a")
        assert there.silence() < 1
        second.at -= 30
        assert 30 <= there.silence() < 31  # since somebody heard something
        first.pause()
        second.close()
        assert there.silence() == 0.0  # the silence is the client's


async def test_what_was_answered_to_its_end_was_heard() -> None:
    async def one_waits(talk: Talk) -> None:
        await talk.asked()
        await talk.say(CHUNKED + chunk(b"a") + END if talk.number else CHUNKED)
        await talk.asked()

    async with raw_engine(one_waits) as engine, connected(engine) as there:
        waiting, ended = await ask(there), await ask(there)
        assert await ended.body() == b"a"
        waiting.at -= 100
        waiting.asked -= 100
        assert there.silence() < 1
        for free in there._free:
            free.idle_since -= 50
        assert 50 <= there.silence() < 51


async def test_the_connection_tends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.1)

    async def mute_on_the_first(talk: Talk) -> None:
        await talk.asked()
        if talk.number:
            await talk.say(EMPTY)
        await talk.asked()

    async with raw_engine(mute_on_the_first) as engine:
        there = Connections(engine.url, connect_seconds=1, silence_seconds=1)
        with pytest.raises(EngineUnreachable):
            await ask(there)
        await ask(there)
        assert len(there._free) == 1
        await until(lambda: not there._open)  # idle for too long
        assert not there._free
        await until(lambda: there._sweep is None)
        await until(lambda: all(talk.over for talk in engine.talks))


async def test_an_engine_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        async with connected(f"http://127.0.0.1:{held.getsockname()[1]}") as there:
            with pytest.raises(EngineUnreachable, match="could not be reached"):
                await ask(there)


async def test_an_engine_that_does_not_accept_is_unreachable_within_the_time_out() -> None:
    with socket.socket() as full, socket.socket() as other, socket.socket() as third:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # takes one that nobody accepts; what comes then hangs
        for one in (other, third):
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        await asyncio.sleep(0.05)
        async with connected(f"http://127.0.0.1:{full.getsockname()[1]}", 0.1) as there:
            began = asyncio.get_running_loop().time()
            with pytest.raises(EngineUnreachable, match="could not be reached"):
                await ask(there)
            assert asyncio.get_running_loop().time() - began < 10


async def test_bytes_nobody_asked_for_cost_that_connection_and_no_answer() -> None:
    async def chatty(talk: Talk) -> None:
        await talk.asked()
        await talk.say(CHUNKED + chunk(b"one") + END)
        await asyncio.sleep(0.05)
        if not talk.number:
            await talk.say(CHUNKED + chunk(b"a lie") + END)
        await talk.asked()
        await talk.say(EMPTY)

    async with raw_engine(chatty) as engine, connected(engine) as there:
        assert await (await ask(there)).body() == b"one"
        await until(lambda: not there._open)
        assert await (await ask(there)).body() == b"one"
        assert len(engine.talks) == 2


@pytest.mark.parametrize("head", [False, True])
async def test_with_nobody_reading_the_engine_stalls_and_memory_stays_bounded(head: bool) -> None:
    sent = 0
    piece = chunk(b"x" * 65536)

    async def pours(talk: Talk) -> None:
        nonlocal sent
        await talk.asked()
        await talk.say(CHUNKED)
        while sent < 64 * 2**20:
            await talk.say(piece)
            sent += len(piece)
        await talk.say(END)

    async with raw_engine(pours) as engine, connected(engine) as there:
        exchange = await ask(there)
        stalled = 0
        while sent != stalled or not sent:  # until the kernel's buffers are full
            stalled = sent
            await asyncio.sleep(0.1)
        assert stalled < 32 * 2**20
        assert sum(map(len, exchange._held)) < 2**20
        got = 0
        done = asyncio.get_running_loop().create_future()

        def sink(data: bytes) -> None:
            nonlocal got
            got += len(data)

        if head:  # pushed
            exchange.stream(sink, lambda: done.set_result(None))
            await asyncio.wait_for(done, 30)
        else:  # pulled
            while data := await exchange.read():
                sink(data)
        assert got == sent // len(piece) * 65536 == 64 * 2**20
        assert not exchange.broken


async def test_a_slow_reader_gets_everything_by_pausing_and_resuming() -> None:
    async def pours(talk: Talk) -> None:
        await talk.asked()
        await talk.say(CHUNKED, *[chunk(b"x" * 65536)] * 64, END)

    async with raw_engine(pours) as engine, connected(engine) as there:
        exchange = await ask(there)
        loop = asyncio.get_running_loop()
        done, got = loop.create_future(), 0

        def sink(data: bytes) -> None:
            nonlocal got
            got += len(data)
            exchange.pause()
            loop.call_later(0.001, exchange.resume)

        exchange.stream(sink, lambda: done.set_result(None))
        await asyncio.wait_for(done, 30)
        assert got == 64 * 65536
        await until(lambda: len(there._free) == 1)


async def test_an_answer_left_to_its_end_keeps_the_connection_when_the_end_comes_and_not_when_it_does_not() -> (
    None
):
    hold = asyncio.Event()

    async def lingers(talk: Talk) -> None:
        while True:
            await talk.asked()
            await talk.say(CHUNKED + chunk(b"data: [DONE]\n\n"))
            await asyncio.sleep(0.02)
            if hold.is_set():
                await talk.asked()
            await talk.say(END)

    async with raw_engine(lingers) as engine, connected(engine) as there:
        exchange = await ask(there)
        exchange.leave_to_end()
        await until(lambda: len(there._free) == 1)
        hold.set()
        exchange = await ask(there)
        exchange.leave_to_end()
        await asyncio.sleep(0.1)
        assert there.break_silent(60) == 0
        assert there.break_silent(60, unread_seconds=0.05) == 1
        await until(lambda: engine.talks[0].over)
        assert not there._free


@pytest.mark.parametrize("when", ["before the head", "in the body", "from the sink"])
async def test_closing_tells_the_engine_to_stop(when: str) -> None:
    async def endless(talk: Talk) -> None:
        await talk.asked()
        if when == "before the head":
            await talk.asked()
        await talk.say(CHUNKED)
        while True:
            await talk.say(chunk(b"x"))
            await asyncio.sleep(0.005)

    async with raw_engine(endless) as engine, connected(engine) as there:
        if when == "before the head":
            taken: list[Exchange] = []
            asking = asyncio.ensure_future(ask(there, taken.append))
            await until(lambda: taken)
            taken[0].close()
            with pytest.raises(EngineUnreachable):
                await asking
        else:
            exchange = await ask(there)
            if when == "in the body":
                assert await exchange.read()
                exchange.close()
            else:
                exchange.stream(lambda _: exchange.close(), lambda: None)
        await until(lambda: engine.talks[0].over)
        await until(lambda: not there._open)
        assert not there._free


async def test_one_who_is_cancelled_before_the_head_frees_the_engine() -> None:
    async def silent(talk: Talk) -> None:
        await talk.asked()
        await talk.asked()

    async with raw_engine(silent) as engine, connected(engine) as there:
        asking = asyncio.ensure_future(ask(there))
        await until(lambda: engine.talks)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: engine.talks[0].over)
        await until(lambda: not there._open)


async def test_closing_all_breaks_what_is_under_way() -> None:
    async def silent(talk: Talk) -> None:
        await talk.asked()
        await talk.say(CHUNKED)
        await talk.asked()

    async with raw_engine(silent) as engine, connected(engine) as there:
        exchange = await ask(there)
        there.close()
        with pytest.raises(EngineUnreachable):
            await asyncio.wait_for(exchange.read(), 30)
        assert there._sweep is None


async def test_many_at_once_under_faults_all_end_and_nothing_is_left() -> None:
    """Every third answer breaks off, every fourth is closed by its reader, one in five is slow."""

    async def faulty(talk: Talk) -> None:
        for count in range(1000):
            asked = await talk.asked()
            await talk.say(CHUNKED + chunk(b"a" * 1000))
            await asyncio.sleep(0.01 if count % 5 == 0 else 0)
            if (talk.number + count) % 3 == 0:
                return
            await talk.say(chunk(b"b" * 1000) + END)
            assert asked == REQUEST

    async def one(there: Connections, number: int) -> int:
        exchange = await ask(there)
        if number % 4 == 0:
            exchange.close()
            return 0
        done = asyncio.get_running_loop().create_future()
        got: list[int] = []
        exchange.stream(lambda data: got.append(len(data)), lambda: done.set_result(None))
        await asyncio.wait_for(done, 30)
        assert sum(got) == 2000 or exchange.broken
        return sum(got)

    async with raw_engine(faulty) as engine, connected(engine) as there:
        results: list[int | BaseException] = []
        for start in range(0, 320, 32):
            results += await asyncio.gather(
                *(one(there, start + number) for number in range(32)), return_exceptions=True
            )
        assert not [one for one in results if isinstance(one, BaseException)]
        assert results.count(2000) > 50
        await until(lambda: len(there._open) == len(there._free))


async def test_a_sink_that_fails_ends_its_stream_and_not_the_others() -> None:
    listening = asyncio.Event()

    async def speaks(talk: Talk) -> None:
        await talk.asked()
        await talk.say(CHUNKED)
        await listening.wait()
        for _ in range(5):
            await talk.say(chunk(b"a"))
            await asyncio.sleep(0.01)
        await talk.say(END)

    loop = asyncio.get_running_loop()
    told: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    async with raw_engine(speaks) as engine, connected(engine) as there:
        failing, other = await ask(there), await ask(there)
        ended, whole = loop.create_future(), loop.create_future()

        def fails(_: bytes) -> None:
            raise ZeroDivisionError

        failing.stream(fails, lambda: ended.set_result(failing.broken))
        other.stream(lambda _: None, lambda: whole.set_result(other.broken))
        listening.set()
        assert await asyncio.wait_for(ended, 30) is True
        assert await asyncio.wait_for(whole, 30) is False
    assert len(told) == 1
