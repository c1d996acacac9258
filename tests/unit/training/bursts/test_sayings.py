"""Votes as arrays: codes, sides and ages, whatever the order of rows."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa

from tests.unit.training.bursts.votes import Said
from training.bursts.sayings import Sayings, capped, hours
from training.suspects import VOTES


def three() -> Said:
    said = Said()
    said.thumb("s-b", 30.0, False, prompt="p", text="x")
    said.prefer("s-a", 10.0, "x", "y", "p")
    said.prefer("s-b", 20.0, "y", "x", "p")
    return said


def test_rows_are_by_time_and_two_that_judge_the_same_have_one_item_and_opposite_sides() -> None:
    sayings = three().sayings()
    assert sayings.time.tolist() == [10.0, 20.0, 30.0]
    assert sayings.ids == ["ev-00001", "ev-00002", "ev-00000"]
    assert sayings.sign.tolist() == [0, 0, -1]
    first, second, thumb = sayings.item.tolist()
    assert first == second != thumb
    assert sayings.side[0] == -sayings.side[1] != 0
    assert sayings.side[2] == -1
    assert sayings.age.tolist() == [0.0, 0.0, 10.0]
    assert [sayings.texts[code] for code in sayings.text] == ["x", "y", "x"]
    assert [sayings.texts[code] for code in sayings.other] == ["y", "x", ""]


def test_the_order_of_rows_changes_nothing() -> None:
    said = three()
    rows = list(said.rows)
    random.Random(1).shuffle(rows)
    again = Sayings.of(pa.Table.from_pylist(rows, schema=VOTES))
    for name in ("time", "sign", "side", "age"):
        assert np.array_equal(getattr(again, name), getattr(said.sayings(), name)), name
    assert again.ids == said.sayings().ids


def test_the_odds_of_an_adapter_lean_on_all_adapters_by_ten_votes() -> None:
    said = Said()
    for n in range(10):
        said.thumb("s", float(n), n < 8, adapter="a-1")
    for n in range(30):
        said.thumb("s", 100.0 + n, False, adapter="a-2")
    sayings = said.sayings()
    every = (8 + 1) / (40 + 2)
    odds = sayings.up_odds(np.ones(40, dtype=bool))
    assert np.allclose(odds[:10], (8 + 10 * every) / 20)
    assert np.allclose(odds[10:], (0 + 10 * every) / 40)


def test_of_each_key_only_the_first_few_are_kept() -> None:
    assert capped(np.array([5, 3, 5, 5, 3, 9]), 2).tolist() == [True, True, True, False, True, True]
    assert capped(np.zeros(0, dtype=np.int64), 2).tolist() == []


def test_lengths_of_time_are_told_in_their_own_unit() -> None:
    assert [hours(600), hours(7200), hours(4 * 86400)] == ["10 min", "2.0 h", "4.0 days"]
