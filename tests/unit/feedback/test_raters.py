"""Krippendorff's alpha against his own examples, and raters' shares by hand."""

from __future__ import annotations

import pytest

from feedback.events import Comparison
from feedback.raters import alpha, judgements, rater_name, raters
from tests.contract.making import comparison

# Computing Krippendorff's Alpha-Reliability (2011), section C: four observers, twelve units, data missing.
OBSERVERS = {
    "A": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    "B": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    "C": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    "D": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
}
# Section A: two observers, ten units, two values.
TWO = {"M": [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], "N": [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]}


def things(observers: dict[str, list[int | None]]) -> dict[str, dict[str, int]]:
    units = range(len(next(iter(observers.values()))))
    told = {str(n): {name: values[n] for name, values in observers.items()} for n in units}
    return {n: {name: value for name, value in row.items() if value is not None} for n, row in told.items()}


def said(rater: str, item: str, *order: tuple[int, ...], time: float = 1.0) -> Comparison:
    return comparison(("x",), ("y",), subject=rater, time=time, item=item, order=order)


def test_alpha_is_that_of_krippendorffs_own_examples() -> None:
    assert alpha(things(dict(TWO)), "nominal") == pytest.approx(0.095, abs=5e-4)
    assert alpha(things(dict(OBSERVERS)), "nominal") == pytest.approx(0.743, abs=5e-4)
    assert alpha(things(dict(OBSERVERS)), "ordinal") == pytest.approx(0.815, abs=5e-4)


def test_alpha_is_one_for_perfect_agreement_and_unknown_where_nothing_can_be_told() -> None:
    assert alpha({"a": {"ann": 1, "bob": 1}, "b": {"ann": -1, "bob": -1}}) == 1.0
    assert alpha({"a": {"ann": 1}, "b": {"bob": -1}}) is None
    assert alpha({"a": {"ann": 1, "bob": 1}}) is None
    assert alpha({}) is None


def test_a_tie_is_nearer_to_either_side_than_the_sides_are() -> None:
    near = {"a": {"ann": 1, "bob": 0}, "b": {"ann": -1, "bob": -1}, "c": {"ann": 1, "bob": 1}}
    far = {**near, "a": {"ann": 1, "bob": -1}}
    told = alpha(near), alpha(far)
    assert told[0] is not None
    assert told[1] is not None
    assert told[0] > told[1]


def test_a_ranking_is_every_two_of_its_options_and_the_newest_word_counts() -> None:
    events = [
        said("ann", "i", (0,), (1,)),
        said("ann", "i", (1,), (0, 2), time=3.0),
        said("ann", "i", (2,), (0,), time=2.0),
        said("bob", "i", (0, 1, 2)),
        comparison(("x",), ("y",), subject="eve"),  # of her own, no item
    ]
    assert judgements(events) == {
        "i/0-1": {"ann": -1, "bob": 0},
        "i/0-2": {"ann": 0, "bob": 0},
        "i/1-2": {"ann": 1, "bob": 0},
    }


def test_raters_are_listed_by_reliability_and_never_by_their_pseudonyms() -> None:
    told = {f"i{n}/0-1": {"s-ann": 1, "s-bob": 1, "s-eve": -1} for n in range(4)} | {"i9/0-1": {"s-new": 1}}
    found = raters(told)
    assert [one.name for one in found[2:]] == [rater_name("s-eve"), rater_name("s-new")]
    by_name = {one.name: one for one in found}
    ann, eve, new = (by_name[rater_name(f"s-{name}")] for name in ("ann", "eve", "new"))
    assert (ann.items, ann.shared, ann.agreement) == (4, 4, 0.5)  # one of two others, always
    assert eve.agreement == 0.0
    mean = (0.5 + 0.5 + 0.0) / 3
    assert ann.reliability == pytest.approx((4 * 0.5 + 4 * mean) / 8)
    assert (new.items, new.shared, new.agreement, new.reliability) == (1, 0, None, pytest.approx(mean))
    assert not any("ann" in one.name or "s-" in one.name for one in found)
