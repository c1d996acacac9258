"""Each kind of forgery is what it is called, and the distance of two distributions is Kolmogorov and Smirnov's."""

from __future__ import annotations

import time

import pytest

from benchmarks.forgeries import UNKNOWN, Forger, changed, distance
from feedback.errors import ExpiredId, InvalidId
from feedback.ids import Secrets, verify

OURS = Secrets((b"k" * 32,))
LIFE = 3600.0


def test_no_kind_of_forgery_verifies_and_the_genuine_do() -> None:
    forger = Forger(OURS, LIFE)
    mine = forger.subject("alice")

    def check(name: str) -> bool:
        verify(OURS, name, mine, now=time.time(), life_seconds=LIFE)
        return True

    assert check(forger.genuine("alice"))
    for kind in UNKNOWN:
        with pytest.raises(InvalidId):
            check(forger.make(kind, "alice"))
    with pytest.raises(ExpiredId):
        check(forger.make("expired", "alice"))


def test_one_letter_is_changed() -> None:
    genuine = Forger(OURS, LIFE).genuine("alice")
    for _ in range(50):
        assert sum(one != other for one, other in zip(genuine, changed(genuine), strict=True)) == 1


def test_the_distance_is_the_largest_difference_of_the_two_cumulative_distributions() -> None:
    assert distance([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 0.0
    assert distance([1.0, 2.0], [3.0, 4.0]) == 1.0
    assert distance([1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 6.0]) == 0.5
