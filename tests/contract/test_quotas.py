"""What every store of shared buckets promises."""

from __future__ import annotations

import time

import pytest
import redis

from feedback import keys
from feedback.memory import MemoryQuotas
from feedback.protocols import Quotas, Use
from feedback.quotas import RedisQuotas


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
    assert level(quotas, Use("a", 100, 10, 30)) == pytest.approx(-20)
    began = time.monotonic()
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


def test_a_bucket_that_is_full_again_leaves_the_server(store: redis.Redis) -> None:
    quotas = RedisQuotas(store)
    quotas.settle("g", 1, [Use("a", 100, 10, 5), Use("b", 1, 10, 5)])
    assert 0 < store.pttl(keys.bucket("a")) <= 50
    assert 4900 < store.pttl(keys.bucket("b")) <= 5000
    assert 0 < store.pttl(keys.GATEWAYS) <= 3000
    time.sleep(0.1)
    assert not store.exists(keys.bucket("a"))
