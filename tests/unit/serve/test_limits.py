"""What keys and subjects may ask for, in one process and in several on one store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from feedback.errors import StoreUnavailable
from feedback.memory import MemoryQuotas
from feedback.protocols import Hold, KeyRecord, Quotas, Settled, Use
from serve.auth import SCOPES, Caller
from serve.errors import TooMany, Unavailable
from serve.limits import Limits
from serve.metrics import Metrics
from serve.settings import GatewaySettings

KEYLESS = Caller("local", SCOPES, keyless=True)


def limits(now: list[float], quotas: Quotas | None = None, **settings: Any) -> Limits:
    made = GatewaySettings(data_dir=Path("unused"), **{"subject_rate": 2.0, "subject_burst": 3, **settings})
    return Limits(made, Metrics(), quotas or MemoryQuotas(lambda: now[0]), lambda: 1, lambda: now[0])


def caller(**fields: Any) -> Caller:
    record = KeyRecord(id="k-1", digest="", scopes=("chat",), created=0.0, **fields)
    return Caller("k-1", frozenset({"chat"}), record=record)


def asked(there: Limits, who: Caller, subject: str = "s-1", responses: int = 1) -> dict[str, str]:
    """One chat that ends at once."""
    with there.chat(who, subject, responses) as admitted:
        return dict(admitted.headers)


class Away:
    """A store that is not there."""

    def settle(
        self, gateway: str, in_flight: int, uses: Sequence[Use], holds: Sequence[Hold] = ()
    ) -> Settled:
        raise StoreUnavailable("away")


def test_a_subjects_burst_is_taken_and_then_its_rate_holds() -> None:
    now = [0.0]
    there = limits(now)
    for _ in range(3):
        there.spend(caller(), "s-1")
    with pytest.raises(TooMany) as caught:
        there.spend(caller(), "s-1")
    assert caught.value.retry_after == 1
    there.spend(caller(), "s-2")
    now[0] = 0.5
    there.spend(caller(), "s-1")
    with pytest.raises(TooMany):
        there.spend(caller(), "s-1")


@pytest.mark.parametrize(("who", "rate"), [(caller(), 0.0), (KEYLESS, 2.0)])
def test_a_rate_of_zero_and_a_caller_without_keys_are_not_bounded(who: Caller, rate: float) -> None:
    there, bounded = limits([0.0], subject_rate=rate), limits([0.0], subject_rate=2.0)
    assert [there.spend(who, "s-1") for _ in range(100)] == [None] * 100
    with pytest.raises(TooMany):
        [bounded.spend(caller(), "s-1") for _ in range(100)]


def test_a_keys_requests_a_minute_are_counted_and_said() -> None:
    now = [0.0]
    there, who = limits(now), caller(requests_per_minute=3)
    assert asked(there, who) == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "20s",
    }
    asked(there, who, responses=2)  # a comparison is two
    with pytest.raises(TooMany, match=r"used its 3 requests a minute.*--requests-per-minute") as caught:
        asked(there, who)
    assert caught.value.retry_after == 20
    assert caught.value.code == "requests_limit"
    assert caught.value.headers["x-ratelimit-remaining-requests"] == "0"
    now[0] = 20.0
    asked(there, who)


def test_a_refused_chat_costs_nothing() -> None:
    now = [0.0]
    there, who = limits(now, engine_chats=1), caller(requests_per_minute=2)
    with there.chat(caller(requests_per_minute=0), "s-0"), pytest.raises(Unavailable):
        asked(there, who)
    assert asked(there, who)["x-ratelimit-remaining-requests"] == "1"


def test_tokens_are_paid_after_and_a_debt_is_waited_for() -> None:
    now = [0.0]
    there, who = limits(now), caller(tokens_per_minute=600)
    asked(there, who)
    there.charge(who, 900)
    with pytest.raises(TooMany, match=r"600 tokens a minute.*--tokens-per-minute") as caught:
        asked(there, who)
    assert caught.value.retry_after == 31  # 300 missing and one to begin with, at 10 a second
    assert caught.value.headers["x-ratelimit-remaining-tokens"] == "0"
    assert caught.value.headers["x-ratelimit-reset-tokens"] == "90s"
    now[0] = 31.0
    asked(there, who)


def test_what_several_responses_used_is_paid_together_by_each_key() -> None:
    there, who = limits([0.0]), caller(tokens_per_minute=600)
    assert who.record
    other = Caller("k-2", who.scopes, record=replace(who.record, id="k-2"))
    for tokens in (100, 200, 50):
        there.charge(who, tokens)
        there.charge(other, 1)
    assert asked(there, who)["x-ratelimit-remaining-tokens"] == "250"
    assert asked(there, other)["x-ratelimit-remaining-tokens"] == "597"


def test_tokens_a_day_hold_beside_those_a_minute() -> None:
    now = [0.0]
    there, who = limits(now), caller(tokens_per_minute=1e6, tokens_per_day=864)
    there.charge(who, 864)
    with pytest.raises(TooMany, match="864 tokens a day") as caught:
        asked(there, who)
    assert caught.value.retry_after == 100


def test_a_key_that_says_nothing_has_the_settings_and_one_that_says_zero_has_no_limit() -> None:
    there = limits([0.0], key_requests_per_minute=1)
    asked(there, caller())
    with pytest.raises(TooMany):
        asked(there, caller())
    for _ in range(3):
        asked(there, caller(requests_per_minute=0))


def test_a_key_and_a_subject_have_only_so_many_chats_at_once() -> None:
    there = limits([0.0], subject_chats=2)
    with there.chat(caller(max_concurrent=1), "s-1"), pytest.raises(TooMany, match="--max-concurrent"):
        asked(there, caller(max_concurrent=1))
    with (
        there.chat(caller(), "s-1", 2),
        pytest.raises(TooMany, match="HEED_SUBJECT_CHATS"),
    ):
        asked(there, caller())
    asked(there, caller(max_concurrent=1))


def test_places_are_given_back_when_a_chat_fails() -> None:
    there = limits([0.0])

    def fail() -> None:
        with there.chat(caller(), "s-1"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert there.places.in_flight == 0


async def test_gateways_hear_of_each_other_through_the_store() -> None:
    now = [0.0]
    store = MemoryQuotas(lambda: now[0])
    one, two = limits(now, store), limits(now, store)
    who = caller(requests_per_minute=6)
    for _ in range(4):
        asked(one, who)
    asked(two, who)
    await one.tell()
    await two.tell()
    assert asked(two, who)["x-ratelimit-remaining-requests"] == "0"
    with pytest.raises(TooMany):
        asked(two, who)


async def test_gateways_hear_of_each_others_chats_and_forget_a_silent_one() -> None:
    now = [0.0]
    store = MemoryQuotas(lambda: now[0])
    one, two = limits(now, store), limits(now, store)
    with one.chat(KEYLESS, "s-1", 5), two.chat(KEYLESS, "s-2"):
        await one.tell()
        await two.tell()
        assert two.places.elsewhere == 5
        now[0] = 3.5
        await two.tell()
        assert two.places.elsewhere == 0


async def test_a_keys_chats_at_once_are_counted_over_the_gateways() -> None:
    now = [10.0]
    store = MemoryQuotas(lambda: now[0])
    one, two = limits(now, store), limits(now, store)
    who, other = caller(max_concurrent=3), caller(max_concurrent=0)
    with one.chat(who, "s-1", 2):
        await one.tell()
        with two.chat(who, "s-1"):  # of which nothing was heard yet
            await two.tell()
            with pytest.raises(TooMany, match="has 3 chats in flight and may have 3"):
                asked(two, who)
            asked(two, other)
            now[0] = 11.0
            await one.tell()
            with pytest.raises(TooMany):
                asked(one, who)
        await two.tell()
        await one.tell()
        asked(one, who)
    await one.tell()
    now[0] = 12.0
    with two.chat(KEYLESS, "s-1"):
        await two.tell()
    asked(two, who, responses=3)


async def test_what_was_heard_of_a_keys_chats_long_ago_refuses_nobody() -> None:
    now = [10.0]
    store = MemoryQuotas(lambda: now[0])
    one, two, who = limits(now, store), limits(now, store), caller(max_concurrent=1)
    with one.chat(who, "s-1"):
        asked(two, who)
        await one.tell()
        await two.tell()
        with pytest.raises(TooMany):
            asked(two, who)
    now[0] = 11.5
    asked(two, who)


async def test_without_the_store_each_gateway_counts_a_keys_chats_alone() -> None:
    class Failing(MemoryQuotas):
        up = True

        def settle(
            self, gateway: str, in_flight: int, uses: Sequence[Use], holds: Sequence[Hold] = ()
        ) -> Settled:
            if not self.up:
                raise StoreUnavailable("away")
            return super().settle(gateway, in_flight, uses, holds)

    now = [10.0]
    store = Failing(lambda: now[0])
    one, two, who = limits(now, store), limits(now, store), caller(max_concurrent=1)
    with one.chat(who, "s-1"):
        await one.tell()
        asked(two, who)
        await two.tell()
        with pytest.raises(TooMany):
            asked(two, who)
        store.up = False
        await two.tell()
        with two.chat(who, "s-1"), pytest.raises(TooMany):
            asked(two, who)


async def test_the_store_hears_of_a_new_key_at_once_and_no_more_of_one_that_rests() -> None:
    told: list[list[Hold]] = []

    class Noting(MemoryQuotas):
        def settle(
            self, gateway: str, in_flight: int, uses: Sequence[Use], holds: Sequence[Hold] = ()
        ) -> Settled:
            told.append(list(holds))
            return super().settle(gateway, in_flight, uses, holds)

    now = [10.0]
    there, who = limits(now, Noting(lambda: now[0]), quota_sync_seconds=60), caller(max_concurrent=5)
    sharing = asyncio.create_task(there.share())
    await asyncio.sleep(0.05)
    with there.chat(who, "s-1", 2):
        for _ in range(6000):
            await asyncio.sleep(0.01)
            if told:
                break
    sharing.cancel()
    assert told == [[Hold("k-1", 2)]]
    await there.tell()
    assert told[1:] == [[Hold("k-1", 0)]]
    for seconds, holds in ((14.0, [Hold("k-1", 0)]), (16.0, [])):
        now[0] = seconds
        with there.chat(KEYLESS, "s-1"):
            await there.tell()
        assert told.pop() == holds


async def test_without_the_store_a_process_holds_the_limits_alone() -> None:
    there, who = limits([0.0], Away()), caller(requests_per_minute=2)
    asked(there, who)
    await there.tell()
    asked(there, who)
    await there.tell()
    with pytest.raises(TooMany):
        asked(there, who)


async def test_the_store_hears_of_a_burst_before_its_turn() -> None:
    store = MemoryQuotas()
    there, who = limits([0.0], store, quota_sync_seconds=60), caller(requests_per_minute=10)
    sharing = asyncio.create_task(there.share())
    await asyncio.sleep(0.05)
    for _ in range(3):
        asked(there, who)
    for _ in range(6000):
        await asyncio.sleep(0.01)
        if "k-1:requests:60" in store._buckets:
            break
    sharing.cancel()
    assert store.settle("x", 0, [Use("k-1:requests:60", 1 / 6, 10, 0)]).levels[0] < 7.5


async def test_an_idle_gateway_asks_the_store_nothing() -> None:
    class Counting(MemoryQuotas):
        calls = 0

        def settle(
            self, gateway: str, in_flight: int, uses: Sequence[Use], holds: Sequence[Hold] = ()
        ) -> Settled:
            self.calls += 1
            return super().settle(gateway, in_flight, uses, holds)

    store = Counting()
    there = limits([0.0], store)
    await there.tell()
    assert store.calls == 0
    with there.chat(KEYLESS, "s-1"):
        await there.tell()
    await there.tell()  # that it ended
    await there.tell()
    assert store.calls == 2
