"""Token buckets: never more than rate × time + burst, and waits that keep their word."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from feedback.memory import MemoryQuotas
from serve.buckets import SLACK, Bucket, Buckets, Quota, whole_seconds

RATES = st.floats(0.01, 1000)
BURSTS = st.floats(1, 1000)
STEPS = st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 20)), min_size=1, max_size=60)


@given(RATES, BURSTS, STEPS)
def test_no_interval_sees_more_than_the_burst_and_what_flowed_in(
    rate: float, burst: float, steps: list[tuple[float, float]]
) -> None:
    bucket, now = Bucket(Quota(rate, burst), 0.0), 0.0
    taken: list[tuple[float, float]] = []
    for pause, units in steps:
        now += pause
        if not bucket.wait(now, units):
            bucket.take(now, units)
            taken.append((now, units))
    for first, (begin, _) in enumerate(taken):
        total = 0.0
        for end, units in taken[first:]:
            total += units
            assert total <= burst + rate * (end - begin) + 2 * SLACK


@given(RATES, BURSTS, STEPS, st.floats(0, 1))
def test_who_waits_as_long_as_was_said_is_let_in(
    rate: float, burst: float, steps: list[tuple[float, float]], share: float
) -> None:
    bucket, now = Bucket(Quota(rate, burst), 0.0), 0.0
    for pause, units in steps:
        now += pause
        bucket.take(now, units)
    asked = share * burst
    wait = bucket.wait(now, asked)
    assert bucket.wait(now + wait, asked) == 0
    if wait:
        assert bucket.wait(now + whole_seconds(wait), asked) == 0
        assert bucket.wait(now + 0.9 * wait, asked) > 0 or 0.1 * wait * rate <= SLACK


@given(st.floats(0, 1e6))
def test_retry_after_is_whole_and_never_early(wait: float) -> None:
    assert max(1.0, wait) <= whole_seconds(wait) < max(2.0, wait + 1)


def test_a_bucket_of_ten_a_minute_by_hand() -> None:
    bucket = Bucket(Quota.per(10, 60), 0.0)
    for _ in range(10):
        assert bucket.wait(0.0, 1) == 0
        bucket.take(0.0, 1)
    assert bucket.wait(0.0, 1) == 6
    assert bucket.wait(4.5, 1) == 1.5
    bucket.take(6.0, 26)  # a long reply, paid after it ended
    assert bucket.left(6.0) == -25
    assert bucket.wait(6.0, 1) == 156


def test_what_is_less_than_one_a_minute_still_lets_one_in() -> None:
    assert Quota.per(0.5, 60).burst == 1


def test_another_limit_keeps_what_was_taken() -> None:
    bucket = Bucket(Quota.per(10, 60), 0.0)
    bucket.take(0.0, 4)
    bucket.change(0.0, Quota.per(20, 60))
    assert bucket.left(0.0) == 16
    bucket.change(0.0, Quota.per(2, 60))
    assert bucket.left(0.0) == -2


def test_the_store_lowers_a_bucket_and_never_fills_it() -> None:
    bucket = Bucket(Quota.per(10, 60), 0.0)
    bucket.take(0.0, 4)
    bucket.untold = 1.0  # three of them were told
    bucket.lower(0.0, 5.0)
    assert bucket.left(0.0) == 4
    bucket.lower(0.0, 1000.0)
    assert bucket.left(0.0) == 4


@given(
    st.integers(2, 5),
    st.floats(1, 50),
    st.floats(1, 100),
    st.lists(st.tuples(st.integers(0, 4), st.floats(0, 0.3)), min_size=20, max_size=200),
)
def test_gateways_together_take_a_burst_each_at_once_and_the_rate_over_time(
    gateways: int, rate: float, burst: float, requests: list[tuple[int, float]]
) -> None:
    now, every = [0.0], 0.1
    store, quota = MemoryQuotas(lambda: now[0]), Quota(rate, burst)
    processes = [Buckets(lambda: now[0]) for _ in range(gateways)]
    taken, told = 0, 0.0
    for which, pause in requests:
        now[0] += pause
        if now[0] - told > every:
            told = now[0]
            for name, process in enumerate(processes):
                uses = process.untold(100)
                levels = store.settle(str(name), 0, uses).levels
                process.told({use.bucket: level for use, level in zip(uses, levels, strict=True)})
        process = processes[which % gateways]
        for _ in range(3):
            bucket = process.of("key", quota)
            if not bucket.wait(now[0], 1):
                process.take(bucket, now[0], 1)
                taken += 1
    unheard = every + 0.3  # from one telling to the next
    assert taken <= gateways * (burst + rate * unheard) + rate * now[0] + SLACK


def test_the_store_hears_early_of_who_takes_much_at_once() -> None:
    heard: list[bool] = []
    buckets = Buckets(lambda: 0.0, early=lambda: heard.append(True))
    quota = Quota(1, 40)
    for _ in range(3):
        buckets.take(buckets.of("a", quota), 0.0, 1)
    assert not heard
    buckets.take(buckets.of("a", quota), 0.0, 1)  # four, and 36 are left
    assert heard
    assert [use.used for use in buckets.untold(10)] == [4]
    assert buckets.untold(10) == []


def test_the_longest_unseen_bucket_goes_first() -> None:
    buckets, quota = Buckets(lambda: 0.0, kept=2), Quota(1, 5)
    for name in ("a", "b", "a", "c"):
        buckets.take(buckets.of(name, quota), 0.0, 1)
    assert {use.bucket for use in buckets.untold(10)} == {"a", "c"}
    assert buckets.of("a", quota).left(0.0) == 3
    assert buckets.of("b", quota).left(0.0) == 5
