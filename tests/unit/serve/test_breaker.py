"""When an engine that fails chats is asked again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.breaker import FAILURES, LONGEST_PAUSE, Breaker


def opened(at: float = 0.0) -> Breaker:
    """A breaker that opened at that time."""
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(at)
    return breaker


def test_it_opens_at_the_third_failure_in_a_row() -> None:
    breaker = Breaker()
    breaker.failed(0)
    breaker.failed(0)
    assert breaker.allows(0)
    breaker.worked()
    breaker.failed(1)
    breaker.failed(1)
    assert breaker.allows(1)
    breaker.failed(1)
    assert breaker.open
    assert not breaker.allows(1)


def test_while_every_trial_fails_the_pauses_double_up_to_the_longest() -> None:
    breaker, now, waits = opened(), 0.0, []
    for _ in range(7):
        waits.append(breaker.opens_at - now)
        assert not breaker.allows(breaker.opens_at - 0.001)
        now = breaker.opens_at
        assert breaker.allows(now)
        breaker.asked(now)
        breaker.failed(now)
    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_the_first_that_goes_well_closes_it() -> None:
    breaker = opened()
    breaker.asked(1.0)
    breaker.worked()
    assert breaker.allows(1.0)
    breaker.asked(1.0)
    assert breaker.allows(1.0)
    breaker.failed(1.5)
    breaker.failed(1.5)
    assert breaker.allows(1.5)


def test_a_trial_that_takes_long_lets_the_next_through_after_another_pause() -> None:
    breaker = opened()
    breaker.asked(1.0)
    assert not breaker.allows(1.9)
    assert breaker.allows(2.0)
    breaker.asked(2.0)
    breaker.failed(2.5)  # the first of the two: the pause is now of two seconds
    assert breaker.opens_at == 4.5


@pytest.mark.parametrize("streams", [3, 32, 1000])
def test_many_streams_that_die_with_an_engine_are_one_reason_for_a_pause(streams: int) -> None:
    breaker = Breaker()
    for _ in range(streams):
        breaker.failed(10.0)
    assert breaker.opens_at == 11.0
    breaker.asked(11.0)
    for _ in range(streams):
        breaker.failed(11.0)
    assert breaker.opens_at == 13.0


moments = st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["ask", "fail"])), max_size=60)


@given(moments)
def test_while_it_is_open_no_two_chats_are_sent_within_its_pause(happens: list[tuple[float, str]]) -> None:
    breaker, now, sent = opened(), 0.0, list[tuple[float, float]]()
    for after, what in happens:
        now += after
        if what == "ask" and breaker.allows(now):
            breaker.asked(now)
            sent.append((now, breaker.opens_at - now))
        elif what == "fail":
            breaker.failed(now)
    for (at, pause), (following, _) in pairwise(sent):
        assert following - at >= pause * 0.999
        assert 0.999 <= pause <= LONGEST_PAUSE * 1.001
