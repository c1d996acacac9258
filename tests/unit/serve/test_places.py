"""Places: lower priorities are refused first, and what is said of waiting is counted."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from feedback.protocols import Priority
from serve import places as places_module
from serve.errors import TooMany, Unavailable
from serve.places import Bounds, Places


def places(now: list[float] | None = None, up: int = 1, **bounds: float) -> Places:
    made = {"gateway": 0, "engine": 20, "high_reserve": 0.1, "low_share": 0.5, **bounds}
    clock = now or [0.0]
    return Places(Bounds(**made), lambda: up, lambda: clock[0])  # type: ignore[arg-type]


def fits(there: Places, priority: Priority) -> bool:
    try:
        there.check(priority, 1)
    except Unavailable:
        return False
    return True


@pytest.mark.parametrize(
    ("busy", "served"),
    [
        (9, {"low", "normal", "high"}),
        (10, {"normal", "high"}),
        (17, {"normal", "high"}),
        (18, {"high"}),
        (19, {"high"}),
        (20, set()),
    ],
)
@pytest.mark.parametrize("bounds", [{"engine": 20}, {"engine": 0, "gateway": 20}, {"engine": 10, "up": 2}])
def test_low_is_refused_first_and_high_last(busy: int, served: set[str], bounds: dict[str, int]) -> None:
    there = places(**bounds)  # type: ignore[arg-type]
    with there.taken((), busy):
        assert {one for one in ("low", "normal", "high") if fits(there, one)} == served  # type: ignore[arg-type]
    assert fits(there, "low")


def test_chats_of_other_gateways_fill_engines_and_not_this_process() -> None:
    there = places(gateway=5)
    there.elsewhere = 18
    assert not fits(there, "normal")
    there.elsewhere = 15
    with there.taken((), 3):
        assert fits(there, "high")
    with there.taken((), 5):
        assert not fits(there, "high")


def test_where_nobody_comes_first_only_the_gateway_is_ever_full() -> None:
    there = places(engine=2, gateway=4)
    with there.taken((), 3):
        there.engine_full()
        there.check(None, 1)
        with pytest.raises(Unavailable, match="in the gateway"):
            there.check(None, 2)


def test_with_no_engine_up_the_chat_itself_finds_out() -> None:
    assert fits(places(up=0), "low")


def test_an_engine_that_is_full_is_believed_for_a_moment() -> None:
    now = [0.0]
    there = places(now, engine=0)
    with there.taken((), 9):
        assert fits(there, "normal")
        there.engine_full()  # of nine chats eight found a place
    with there.taken((), 8):
        assert not fits(there, "high")
    with there.taken((), 7):
        assert fits(there, "high")
        assert not fits(there, "normal")
        now[0] = 1.0
        assert fits(there, "low")


def test_a_key_has_no_more_places_than_it_may_and_gives_them_back() -> None:
    there = places()
    with ExitStack() as held:
        for _ in range(2):
            there.check_holder("k-1", 2, 1, "the key", "--max-concurrent")
            held.enter_context(there.taken(("k-1", "s-1"), 1))
        with pytest.raises(
            TooMany, match=r"the key has 2 chats in flight and may have 2: .* --max-concurrent"
        ):
            there.check_holder("k-1", 2, 1, "the key", "--max-concurrent")
        there.check_holder("k-2", 2, 1, "the key", "")
        there.check_holder("k-1", 0, 1, "the key", "")
    there.check_holder("k-1", 2, 2, "the key", "")
    assert not there._held


def test_a_wait_is_as_long_as_chats_take_and_never_nothing() -> None:
    now = [0.0]
    there = places(now, engine=20)
    for _ in range(200):  # chats of 40 s
        with there.taken((), 1):
            now[0] += 40
    with there.taken((), 20):
        with pytest.raises(Unavailable) as one:
            there.check("high", 1)
        with pytest.raises(Unavailable) as more:
            there.check("low", 1)
    assert one.value.retry_after == 2  # twenty chats end in 40 s: one in 2 s
    assert more.value.retry_after == 22  # eleven must end


async def test_those_who_wait_get_their_places_in_turn_and_newcomers_come_after_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(places_module, "TURN_PAUSE", 0.001)
    now = [0.0]
    there, order = places(now, engine=2), []

    async def wait(name: str, held: ExitStack, count: int) -> None:
        await there.turn("high", count)
        there.check("high", count)
        held.enter_context(there.taken((), count))
        order.append(name)

    with ExitStack() as one, ExitStack() as two, ExitStack() as first, ExitStack() as second:
        for held in (one, two):
            held.enter_context(there.taken((), 1))
        assert not there.free("high", 1)
        waiting = [
            asyncio.create_task(wait("a pair", first, 2)),
            asyncio.create_task(wait("a chat", second, 1)),
        ]
        await asyncio.sleep(0.02)
        one.close()  # enough for the second, and the pair was first
        await asyncio.sleep(0.02)
        assert (order, there.free("high", 1)) == ([], False)
        two.close()
        await waiting[0]
        assert (order, there.in_flight) == (["a pair"], 2)
        first.close()
        await waiting[1]
    assert order == ["a pair", "a chat"]
    assert there.free("high", 2)


async def test_nobody_waits_longer_than_a_moment_and_only_so_many_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(places_module, "TURN_PAUSE", 0.001)
    now = [0.0]
    there = places(now, engine=1)
    with there.taken((), 1):
        waiting = [asyncio.create_task(there.turn("high", 1)) for _ in range(places_module.TURNS)]
        await asyncio.sleep(0.01)
        await there.turn("high", 1)  # one too many: at once
        assert not any(task.done() for task in waiting)
        waiting[3].cancel()  # its client left
        now[0] += places_module.TURN_SECONDS
        await asyncio.gather(*waiting, return_exceptions=True)
        assert not fits(there, "high")
    assert there.free("high", 1)
