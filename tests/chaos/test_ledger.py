"""The ledger's benchmark in small: votes under kills, with the store down and a spool that ends in half a line."""

from __future__ import annotations

import pytest

from benchmarks.ledger import WRONG, measure


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_every_acknowledged_vote_is_in_the_batch_once_whatever_was_killed() -> None:
    row = measure("torn", votes=300, kills=3, rate=60.0, seed=5)
    assert row["acknowledged"] > 300, "some were changed"
    assert row["kills"] >= 3, "the store and both gateways, at least"
    assert row["spooled"] > 0, "the store was down"
    assert {name: row[name] for name in WRONG} == dict.fromkeys(WRONG, 0)
