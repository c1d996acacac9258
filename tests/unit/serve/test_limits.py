"""Bounds of one process."""

from __future__ import annotations

import pytest

from serve.errors import TooMany, Unavailable
from serve.limits import Limits
from serve.metrics import Metrics


def limits(now: list[float], **more: float) -> Limits:
    settings = {"in_flight": 2, "rate": 2.0, "burst": 3, **more}
    return Limits(Metrics(), clock=lambda: now[0], **settings)  # type: ignore[arg-type]


def test_a_burst_is_taken_and_then_the_rate_holds() -> None:
    now = [0.0]
    bucket = limits(now)
    for _ in range(3):
        bucket.spend("s-1")
    with pytest.raises(TooMany) as caught:
        bucket.spend("s-1")
    assert caught.value.retry_after == 1
    bucket.spend("s-2")
    now[0] = 0.5
    bucket.spend("s-1")
    with pytest.raises(TooMany):
        bucket.spend("s-1")


def test_a_rate_of_zero_bounds_nothing() -> None:
    bucket = limits([0.0], rate=0.0)
    for _ in range(100):
        bucket.spend("s-1")


def test_a_place_is_given_back() -> None:
    places = limits([0.0])
    with places.chat(), places.chat():
        with pytest.raises(Unavailable) as caught, places.chat():
            pass
        assert caught.value.retry_after == 1
    with places.chat():
        pass
