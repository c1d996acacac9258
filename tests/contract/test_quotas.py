"""What every store of shared buckets promises."""

from __future__ import annotations

import time

import pytest
import redis

from feedback import keys
from feedback.memory import MemoryQuotas
from feedback.protocols import Hold, Quotas, Use
from feedback.quotas import RedisQuotas
from tests.servers import wait_until


@pytest.fixture(params=["redis", "memory"])
def quotas(request: pytest.FixtureRequest) -> Quotas:
    if request.param == "memory":
        return MemoryQuotas()
    return RedisQuotas(request.getfixturevalue("store"))


def level(quotas: Quotas, use: Use) -> float:
    return quotas.settle("g", 0, [use]).levels[0]


def test_a_bucket_begins_full_and_asking_takes_nothing(quotas: Quotas) -> None:
    for _ in range(2):
        assert level(quotas, Use("a", 0.001, 10, 0)) == 10


def test_what_is_used_is_missing_also_below_nothing(quotas: Quotas) -> None:
    assert level(quotas, Use("a", 0.001, 10, 4)) == pytest.approx(6, abs=0.01)
    assert level(quotas, Use("a", 0.001, 10, 9.5)) == pytest.approx(-3.5, abs=0.01)
    assert level(quotas, Use("a", 0.001, 10, 0)) == pytest.approx(-3.5, abs=0.01)


def test_buckets_are_told_apart_and_answered_in_order(quotas: Quotas) -> None:
    uses = [Use("a", 0.001, 10, 1), Use("b", 0.001, 20, 2), Use("a", 0.001, 10, 1)]
    assert quotas.settle("g", 0, uses).levels == pytest.approx((9, 18, 8), abs=0.01)
    assert quotas.settle("g", 0, []).levels == ()


def test_a_bucket_fills_at_its_rate_and_no_higher_than_its_burst(quotas: Quotas) -> None:
    began = time.monotonic()
    assert level(quotas, Use("a", 100, 10, 30)) == pytest.approx(-20)
    time.sleep(0.1)
    found = level(quotas, Use("a", 100, 10, 0))
    assert -10.5 <= found <= -20 + 100 * (time.monotonic() - began) + 0.5
    time.sleep(0.3)
    assert level(quotas, Use("a", 100, 10, 0)) == 10


def test_chats_of_other_gateways_are_added_up(quotas: Quotas) -> None:
    assert quotas.settle("one", 3, []).elsewhere == 0
    assert quotas.settle("two", 4, []).elsewhere == 3
    assert quotas.settle("three", 0, []).elsewhere == 7
    assert quotas.settle("one", 5, []).elsewhere == 4
    assert quotas.settle("two", 4, []).elsewhere == 5


def test_the_chats_of_a_key_are_added_up_over_the_other_gateways(quotas: Quotas) -> None:
    assert quotas.settle("one", 3, [], [Hold("k-1", 2), Hold("k-2", 1)]).held == (0, 0)
    assert quotas.settle("two", 4, [], [Hold("k-2", 0), Hold("k-1", 4)]).held == (1, 2)
    assert quotas.settle("three", 0, [], [Hold("k-1", 0)]).held == (6,)
    assert quotas.settle("one", 1, [], [Hold("k-1", 0)]).held == (4,)
    assert quotas.settle("two", 4, [], [Hold("k-1", 4), Hold("k-3", 0)]).held == (0, 0)


def test_buckets_and_holds_are_told_together_and_answered_each_in_order(quotas: Quotas) -> None:
    quotas.settle("one", 5, [], [Hold("k-1", 5), Hold("k-2", 7)])
    uses = [Use("a", 0.001, 10, 1), Use("b", 0.001, 20, 2)]
    told = quotas.settle("two", 0, uses, [Hold("k-1", 0), Hold("k-2", 0), Hold("k-3", 1)])
    assert told.levels == pytest.approx((9, 18), abs=0.01)
    assert told.held == (5, 7, 0)
    assert told.elsewhere == 5


def test_a_hold_leaves_the_server_when_it_ends_and_when_its_gateway_falls_silent(store: redis.Redis) -> None:
    quotas = RedisQuotas(store)
    quotas.settle("g", 1, [], [Hold("k-1", 1)])
    assert 0 < store.pttl(keys.held("k-1")) <= 3000
    quotas.settle("g", 1, [], [Hold("k-1", 0)])
    assert not store.exists(keys.held("k-1"))
    long_ago = int(time.time() * 1000) - 3100
    store.hset(keys.held("k-1"), mapping={"silent": f"4 {long_ago}", "other": f"2 {long_ago + 3000}"})
    assert quotas.settle("g", 0, [], [Hold("k-1", 0)]).held == (2,)
    assert store.hkeys(keys.held("k-1")) in ([b"other"], ["other"])


def test_a_bucket_that_is_full_again_leaves_the_server(store: redis.Redis) -> None:
    quotas = RedisQuotas(store)
    quotas.settle("g", 1, [Use("a", 2.5, 10, 5), Use("b", 0.01, 10, 5)])
    assert 0 < store.pttl(keys.GATEWAYS) <= 3000
    assert 0 < store.pttl(keys.bucket("a")) <= 2000
    assert 490_000 < store.pttl(keys.bucket("b")) <= 500_000
    wait_until(lambda: not store.exists(keys.bucket("a")), 60, "the end of a full bucket")
    assert store.exists(keys.bucket("b"))
