"""The pool: which engine is asked, what its health does to it, and what is given back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve import engines as module
from serve.breaker import FAILURES
from serve.engine_client import EngineClient
from serve.engines import BASE, BUSIER, LISTED_EVERY, MISSES, SETTLE_SECONDS, SILENT_SECONDS, Engine, Pool
from serve.errors import EngineUnreachable
from serve.metrics import Metrics
from tests.unit.serve.running import until


class Client:
    """An engine's client whose answers the test decides."""

    def __init__(self) -> None:
        self.listed: dict[str, Any] = {BASE: {"id": BASE}}
        self.away = False
        self.asked = 0
        self.broken_off: list[float] = []
        self.closed = False
        self.gate: asyncio.Event | None = None
        self.silent = 0.0  # seconds
        self.told: tuple[str, ...] = ("tokens 7",)
        self.mute = False  # the core

    async def healthy(self) -> None:
        await self.models()

    async def models(self) -> dict[str, Any]:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise EngineUnreachable("away")
        return dict(self.listed)

    def silence(self) -> float:
        return self.silent

    async def counts(self) -> tuple[str, ...]:
        return self.told

    async def answers(self, served: str) -> None:
        assert served == "base"
        if self.mute:
            raise EngineUnreachable("mute")

    def break_silent(self, seconds: float) -> int:
        self.broken_off.append(seconds)
        return 0

    def close(self) -> None:
        self.closed = True


def engine(name: str = "engine-0", *, up: bool = True) -> Engine:
    return Engine(name, cast("EngineClient", Client()), up=up)


def client_of(one: Engine) -> Client:
    return cast("Client", one.client)


METRICS = Metrics()


def pool(*made: Engine) -> Pool:
    return Pool(list(made), METRICS, "base")


def several(count: int) -> Pool:
    return pool(*(engine(f"engine-{number}") for number in range(count)))


def without(name: str) -> frozenset[str]:
    return frozenset({name})


def prefixes(count: int) -> list[bytes]:
    return [b"prompt %d" % number for number in range(count)]


def chosen(there: Pool, prefix: bytes = b"", tried: frozenset[str] = frozenset()) -> str:
    one = there.choose(BASE, tried, prefix)
    assert one is not None
    return one.name


def test_without_a_prefix_the_least_busy_is_asked() -> None:
    there = several(3)
    for one, load in zip(there.engines, (2, 1, 3), strict=True):
        one.load = load
    assert chosen(there) == "engine-1"
    assert chosen(there, tried=without("engine-1")) == "engine-0"


@given(st.permutations(range(5)), st.binary(min_size=1, max_size=20))
def test_a_prefix_goes_to_the_same_engine_in_whatever_order_they_stand(
    order: list[int], prefix: bytes
) -> None:
    shuffled = pool(*(engine(f"engine-{number}") for number in order))
    assert chosen(shuffled, prefix) == chosen(several(5), prefix)


def test_prefixes_are_spread_and_move_only_from_the_engine_that_leaves() -> None:
    there = several(4)
    before = {prefix: chosen(there, prefix) for prefix in prefixes(400)}
    counts = Counter(before.values())
    assert len(counts) == 4
    assert min(counts.values()) > 60  # of 100 on average
    there.engines[2].leaving = True
    after = {prefix: chosen(there, prefix) for prefix in prefixes(400)}
    moved = {prefix for prefix in before if before[prefix] != after[prefix]}
    assert moved == {prefix for prefix, name in before.items() if name == "engine-2"}
    assert len({after[prefix] for prefix in moved}) == 3


@given(st.integers(2, 6), st.lists(st.sampled_from(prefixes(5)), min_size=1, max_size=60))
def test_no_prefix_makes_an_engine_much_busier_than_the_others(count: int, asked: list[bytes]) -> None:
    there = several(count)
    for prefix in asked:
        one = there.choose(BASE, frozenset(), prefix)
        assert one is not None
        one.hold(BASE)
        total = sum(each.load for each in there.engines)
        assert one.load <= -(-BUSIER * total // count)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=6))
def test_some_engine_always_has_room(loads: list[int]) -> None:
    there = several(len(loads))
    for one, load in zip(there.engines, loads, strict=True):
        one.load = load
    assert there.choose(BASE, frozenset(), b"prefix") is not None


def test_a_busy_engine_hands_its_prefix_on_and_gets_it_back() -> None:
    there = several(2)
    home = there.choose(BASE, frozenset(), b"p")
    assert home is not None
    releases = [home.hold(BASE) for _ in range(3)]
    assert chosen(there, b"p") != home.name
    for release in releases:
        release()
    assert chosen(there, b"p") == home.name


@pytest.mark.parametrize(("loads", "most"), [((4, 3, 0), 4), ((4, 4, 2), 4), ((5, 4, 4), 4), ((2, 1, 2), 2)])
def test_an_engine_that_works_on_all_it_can_gets_no_more_while_another_can(
    loads: tuple[int, ...], most: int
) -> None:
    there = Pool([engine(f"engine-{number}") for number in range(3)], METRICS, "base", most)
    for one, load in zip(there.engines, loads, strict=True):
        one.load = load
    able = {one.name for one in there.engines if one.load < most} or {
        one.name for one in there.engines if one.load == min(loads)
    }
    assert {chosen(there, prefix) for prefix in prefixes(50)} <= able


def test_only_an_engine_that_has_the_adapter_is_asked_for_it() -> None:
    there = several(3)
    there.set_ready(there.engines[1], "a-1", True)
    assert there.choose("a-1") is there.engines[1]
    assert there.choose("a-1", prefix=b"p") is there.engines[1]
    assert there.choose("a-1", without("engine-1")) is None
    assert there.anywhere("a-1")
    assert not there.anywhere("a-2")
    assert (there.served_name("a-1"), there.served_name(BASE)) == ("a-1", "base")
    there.set_ready(there.engines[1], "a-1", False)
    assert there.choose("a-1") is None


@pytest.mark.parametrize(
    ("change", "open_"),
    [
        (lambda one: None, True),
        (lambda one: setattr(one, "up", False), False),
        (lambda one: setattr(one, "draining", True), False),
        (lambda one: setattr(one, "leaving", True), False),
        (lambda one: (setattr(one, "settled", False), setattr(one, "up_at", time.monotonic())), False),
        (
            lambda one: (
                setattr(one, "settled", False),
                setattr(one, "up_at", time.monotonic() - SETTLE_SECONDS - 1),
            ),
            True,
        ),
        (lambda one: [one.breaker.failed(time.monotonic()) for _ in range(FAILURES)], False),
        (lambda one: [one.breaker.failed(time.monotonic() - 2) for _ in range(FAILURES)], True),
    ],
)
def test_which_engines_take_new_chats(change: Callable[[Engine], object], open_: bool) -> None:
    one = engine()
    change(one)
    assert one.open == open_
    assert pool(one).any_up == open_
    assert (pool(one).choose(BASE) is one) == open_


@given(st.lists(st.sampled_from([BASE, "a-1", "a-2"]), max_size=20), st.randoms(use_true_random=False))
def test_what_is_held_is_released_once_and_leaves_nothing(adapters: list[str], random: Any) -> None:
    one = engine()
    releases = [one.hold(adapter) for adapter in adapters]
    assert one.load == len(adapters)
    assert one.in_flight == Counter(adapters)
    random.shuffle(releases)
    for release in releases:
        release()
        release()
    assert (one.load, dict(one.in_flight)) == (0, {})
    assert one.used.keys() == set(adapters)


def test_an_engine_whose_connection_failed_gets_nothing_until_it_is_healthy_again() -> None:
    there = several(2)
    changes: list[None] = []
    there.changed = lambda: changes.append(None)
    there.lost(there.engines[0])
    there.lost(there.engines[0])
    assert not there.engines[0].up
    assert there.engines[0].breaker.failures == 2
    assert len(changes) == 1
    assert chosen(there) == "engine-1"


def test_three_failures_leave_an_engine_alone_though_it_is_up(caplog: pytest.LogCaptureFixture) -> None:
    there = several(2)
    for _ in range(32):
        there.failed(there.engines[0])
    assert there.engines[0].up
    assert not there.engines[0].open
    assert caplog.text.count("is left alone for a while") == 1


async def test_an_engine_is_down_after_two_checks_that_failed_and_its_silent_chats_are_broken_off() -> None:
    one = engine()
    there, client = pool(one), client_of(one)
    client.away = True
    await there.check(one)
    assert one.up
    assert client.broken_off == []
    await there.check(one)
    assert one.misses == MISSES == 2
    assert not one.up
    assert client.broken_off == [SILENT_SECONDS]
    await there.check(one)
    assert len(client.broken_off) == 2
    client.away = False
    await there.check(one)
    assert (one.up, one.misses, one.settled) == (True, 0, False)


async def test_an_engine_whose_core_hangs_is_down_until_it_answers_though_its_health_is_good() -> None:
    one, other = engine(), engine("engine-1")
    there, client = pool(one, other), client_of(one)
    one.pulse.patience, client.silent, client.mute = 1e-9, 10.0, True
    await there.check(one)
    assert one.up  # its counts were seen for the first time
    await there.check(one)
    assert (one.up, client.broken_off) == (False, [SILENT_SECONDS])
    await there.check(one)
    assert (one.up, client.broken_off) == (False, [SILENT_SECONDS] * 2)
    client.silent, client.mute = 0.0, False
    await there.check(one)
    assert one.up
    assert one.pulse.patience >= 20.0


async def test_an_engine_whose_counts_move_or_that_stands_alone_is_not_taken_for_hung() -> None:
    one, other = engine(), engine("engine-1", up=False)
    there, client = pool(one, other), client_of(one)
    one.pulse.patience, client.silent = 1e-9, 10.0
    for _ in range(3):
        await there.check(one)
    assert one.up  # nobody else could answer
    other.up = True
    for tokens in range(8, 12):
        client.told = (f"tokens {tokens}",)
        await there.check(one)
    assert one.up


async def test_a_hung_engine_that_goes_away_comes_back_as_another() -> None:
    one, other = engine(), engine("engine-1")
    there, client = pool(one, other), client_of(one)
    one.pulse.patience, client.silent, client.mute = 1e-9, 10.0, True
    for _ in range(2):
        await there.check(one)
    client.away, client.silent = True, 0.0
    await there.check(one)
    client.away = False
    await there.check(one)
    assert one.up
    assert one.pulse.patience == 1e-9


async def test_a_check_forgets_adapters_that_a_restart_lost_and_not_those_that_came_meanwhile() -> None:
    one = engine()
    there, client = pool(one), client_of(one)
    there.set_ready(one, "lost", True)
    client.gate = asyncio.Event()
    one.checks = LISTED_EVERY - 1
    checking = asyncio.ensure_future(there.check(one))
    await asyncio.sleep(0)
    there.set_ready(one, "new", True)
    client.gate.set()
    await checking
    assert one.ready == {"new"}
    assert one.loaded == {BASE: {"id": BASE}}


async def test_waiting_ends_with_the_engine_or_with_the_time_or_with_the_client() -> None:
    one = engine(up=False)
    there = pool(one)
    now = time.monotonic()
    assert await there.wait_for(BASE, frozenset(), b"", now) is None
    assert await there.wait_for(BASE, frozenset(), b"", now + 60, lambda: True) is None
    waiting = asyncio.ensure_future(there.wait_for(BASE, frozenset(), b"", now + 60))
    await asyncio.sleep(0.01)
    one.up = True
    assert await asyncio.wait_for(waiting, 30) is one


async def test_the_start_waits_until_engines_have_their_adapters_and_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = engine()
    there = pool(one, engine("engine-1", up=False))
    await asyncio.wait_for(there.settle(), 30)
    one.settled = False
    settling = asyncio.ensure_future(there.settle())
    await asyncio.sleep(0.05)
    assert not settling.done()
    one.settled = True
    await asyncio.wait_for(settling, 30)
    one.settled = False
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.05)
    await asyncio.wait_for(there.settle(), 30)


async def test_the_watch_takes_in_engines_that_join_and_lets_those_that_left_be() -> None:
    first, second = engine(up=False), engine("engine-1", up=False)
    there = pool(first)
    watching = asyncio.ensure_future(there.watch(0.01))
    try:
        await until(lambda: first.up)
        there.add(second)
        await until(lambda: second.up)
        there.remove(first)
        assert client_of(first).closed
        await asyncio.sleep(0.05)
        asked, others = client_of(first).asked, client_of(second).asked
        await until(lambda: client_of(second).asked > others + 5)
        assert client_of(first).asked == asked
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_an_engine_that_does_not_answer_holds_up_no_other() -> None:
    stuck, other = engine(up=False), engine("engine-1", up=False)
    client_of(stuck).gate = asyncio.Event()
    there = pool(stuck, other)
    watching = asyncio.ensure_future(there.watch(0.01))
    try:
        await until(lambda: client_of(other).asked > 3)
        assert client_of(stuck).asked == 1
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_an_engine_that_left_during_its_check_stays_forgotten() -> None:
    one = engine(up=False)
    there = pool(one)
    client = client_of(one)
    client.gate = asyncio.Event()
    checking = asyncio.ensure_future(there.check(one))
    await asyncio.sleep(0)
    there.remove(one)
    client.gate.set()
    await checking
    assert there._metrics.registry.get_sample_value("heed_engine_up", {"engine": one.name}) is None
