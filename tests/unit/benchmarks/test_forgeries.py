"""Each kind of forgery is what it is called, and the distance of two distributions is Kolmogorov and Smirnov's."""

from __future__ import annotations

import time

import pytest

from benchmarks.forgeries import COMPARED, FEEDBACK, RANKED, UNKNOWN, Forger, asked, changed, distance
from feedback.errors import ExpiredId, InvalidId
from feedback.ids import COMPARISON, RESPONSE, Secrets, mint_comparison, mint_response, verify

OURS = Secrets((b"k" * 32,))
LIFE = 3600.0


@pytest.mark.parametrize("prefix", [RESPONSE, COMPARISON])
def test_no_kind_of_forgery_verifies_and_the_genuine_do(prefix: str) -> None:
    rater = Forger(OURS, LIFE).subject("rater")
    shown = {
        RESPONSE: [mint_response(OURS, rater, now=time.time())],
        COMPARISON: [mint_comparison(OURS, rater, now=time.time())],
    }
    forger = Forger(OURS, LIFE, shown)
    mine = forger.subject("alice")

    def check(name: str, subject: str = mine) -> bool:
        verify(OURS, name, subject, now=time.time(), life_seconds=LIFE, prefix=prefix)
        return True

    assert check(forger.genuine("alice", prefix))
    assert check(forger.make("other rater", "alice", prefix), rater)
    for kind in UNKNOWN:
        with pytest.raises(InvalidId):
            check(forger.make(kind, "alice", prefix))
    with pytest.raises(ExpiredId):
        check(forger.make("expired", "alice", prefix))


def test_a_forgery_comes_as_a_vote_a_comparison_and_beside_an_id_of_ones_own() -> None:
    assert asked(FEEDBACK, "x", "u") == (
        "POST",
        "/v1/feedback",
        {"response_id": "x", "rating": "up", "user": "u"},
    )
    assert asked(COMPARED, "x", "u")[2] == {"comparison_id": "x", "preferred": 0, "user": "u"}
    assert asked(RANKED, "x", "u", "mine") == (
        "POST",
        "/v1/comparisons",
        {"ranking": [["mine"], ["x"]], "user": "u"},
    )
    assert asked("GET /v1/feedback/{id}", "x", "u") == ("GET", "/v1/feedback/x?user=u", None)


def test_one_letter_is_changed() -> None:
    genuine = Forger(OURS, LIFE).genuine("alice")
    for _ in range(50):
        assert sum(one != other for one, other in zip(genuine, changed(genuine), strict=True)) == 1


def test_the_distance_is_the_largest_difference_of_the_two_cumulative_distributions() -> None:
    assert distance([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 0.0
    assert distance([1.0, 2.0], [3.0, 4.0]) == 1.0
    assert distance([1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 6.0]) == 0.5
