"""What stands, against a model that keeps everything in dictionaries."""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.columns import moments, table_of
from feedback.events import Comparison, Event, Label, Report, Vote
from feedback.protocols import Entry
from feedback.standing import COLUMNS, SAID, Standing, standing
from tests.contract.making import comparison, report, vote

REPLIES, SUBJECTS = ("r1", "r2", "r3"), ("s1", "s2")
Pairs = dict[tuple[str, frozenset[str]], tuple[str, str, str]]


def what_stands(events: list[tuple[int, Event]]) -> tuple[dict[str, str], Pairs, set[str]]:
    """Votes by voice, pairs by subject and replies, and the replies left out; ``events`` with their places."""
    said: dict[str, Event] = {}
    verdicts: dict[str, Report] = {}
    for _, event in sorted(events, key=lambda one: (one[1].time, one[0])):
        if isinstance(event, Vote | Comparison | Label):
            said[event.feedback_id] = event
    pairs: Pairs = {}
    for event in sorted(said.values(), key=lambda one: (one.time, _place(events, one))):
        if isinstance(event, Comparison):
            placed = [(name, place) for place, group in enumerate(event.ranking) for name in group]
            for (a, first), (b, second) in itertools.combinations(placed, 2):
                outcome = "win" if first != second else "both_bad" if event.both_bad else "tie"
                pairs[event.subject, frozenset((a, b))] = (a, b, outcome)
    for _, event in sorted(events, key=lambda one: (one[1].time, one[0])):
        if isinstance(event, Report):
            old = verdicts.get(event.report_id)
            if old is None or event.verdict is not None or old.verdict is None:
                verdicts[event.report_id] = event
    votes = {name: event.rating for name, event in said.items() if isinstance(event, Vote) and event.rating}
    return votes, pairs, {one.response_id for one in verdicts.values() if one.verdict != "dismissed"}


def _place(events: list[tuple[int, Event]], event: Event) -> int:
    return next(place for place, one in events if one is event)


def of(events: list[tuple[int, Event]], cut: int = 0) -> Standing:
    """What stands, read from two segments in the wrong order, of which one event is in both."""
    table = table_of(Entry(f"{place // 3}-{place % 3}", event) for place, event in events).select(COLUMNS)
    found = [table.slice(cut), table.slice(0, cut + 1)]
    return standing(part.filter(pc.is_in(part["kind"], pa.array(SAID))) for part in found)


TIMES = st.integers(1, 6).map(float)
VOTED = st.builds(
    vote,
    st.sampled_from(REPLIES), st.sampled_from(["up", "down", None]), TIMES, st.sampled_from(SUBJECTS),
)  # fmt: skip
RANKINGS = st.permutations(REPLIES).flatmap(
    lambda names: st.sampled_from(
        [((a,), (b,)) for a, b in [names[:2]]]
        + [((names[0], names[1]),), ((names[0],), (names[1], names[2])), tuple((name,) for name in names)]
    )
)
COMPARED = st.builds(
    lambda ranking, bad, time, who, on: comparison(
        *ranking, both_bad=bad and len(ranking) == 1, time=time, subject=who, on=on
    ),
    RANKINGS, st.booleans(), TIMES, st.sampled_from(SUBJECTS), st.sampled_from(["c1", "c2"]),
)  # fmt: skip
REPORTED = st.builds(
    lambda name, time, verdict: report(name, f"r{name[-1]}", time, verdict=verdict),
    st.sampled_from(["rp-1", "rp-2"]), TIMES, st.sampled_from([None, "upheld", "dismissed"]),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(said=st.lists(st.one_of(VOTED, COMPARED, REPORTED), max_size=14), data=st.data())
def test_what_stands_is_what_the_model_says_in_whatever_order_it_was_read(
    said: list[Event], data: Any
) -> None:
    events = list(enumerate(said))
    found = of(events, data.draw(st.integers(0, len(events))))
    votes, pairs, left_out = what_stands(events)
    told = found.votes.select(["response_id", "subject", "rating"]).to_pylist()
    assert sorted(tuple(row.values()) for row in told) == sorted(_voiced(events, votes))
    ranked = found.pairs.select(["subject", "a", "b", "rating"]).to_pylist()
    assert {
        (row["subject"], frozenset((row["a"], row["b"]))): (row["a"], row["b"], row["rating"])
        for row in ranked
    } == pairs
    assert len(ranked) == len(pairs)
    assert set(found.left_out.to_pylist()) == left_out
    assert [found.votes["time"].to_pylist(), found.pairs["time"].to_pylist()] == [
        sorted(found.votes["time"].to_pylist()), sorted(found.pairs["time"].to_pylist())
    ]  # fmt: skip


def _voiced(events: list[tuple[int, Event]], votes: dict[str, str]) -> set[tuple[str, str, str]]:
    return {
        (event.response_id, event.subject, votes[event.feedback_id])
        for _, event in events
        if isinstance(event, Vote) and event.feedback_id in votes
    }


def test_of_the_same_time_the_later_in_the_log_stands() -> None:
    assert of([(0, vote("r1", "up", 5.0)), (1, vote("r1", "down", 5.0))]).votes["rating"].to_pylist() == [
        "down"
    ]
    assert of([(9, vote("r1", "up", 5.0)), (10, vote("r1", "down", 5.0))]).votes["rating"].to_pylist() == [
        "down"
    ]


def test_a_ranking_of_five_is_ten_pairs_and_counts_again_what_no_later_one_says() -> None:
    ranking = comparison(("a",), ("b", "c"), ("d",), ("e",), on="five", time=1.0)
    told = of([(0, ranking), (1, comparison(("c",), ("b",), on="two", time=2.0))])
    pairs = [tuple(row.values()) for row in told.pairs.select(["a", "b", "rating"]).to_pylist()]
    assert len(pairs) == 10
    assert pairs[-1] == ("c", "b", "win")
    assert ("b", "c", "tie") not in pairs
    assert pairs[:4] == [("a", "b", "win"), ("a", "c", "win"), ("a", "d", "win"), ("a", "e", "win")]


def test_an_open_report_does_not_undo_a_verdict() -> None:
    dismissed = report("rp-1", "r1", 4.0, verdict="dismissed")
    assert of([(0, dismissed), (1, report("rp-1", "r1", 9.0))]).left_out.to_pylist() == []
    both = [(0, dismissed), (1, report("rp-2", "r1", 3.0))]
    assert of(both).left_out.to_pylist() == ["r1"]  # by another, still open


def test_positions_are_numbers_with_or_without_a_second_part() -> None:
    assert moments(pa.array(["9-10", "10-9"])).tolist() == [[9, 10], [10, 9]]
    assert moments(pa.array(["9", "10-9"])).tolist() == [[9, 0], [10, 9]]
    assert moments(pa.array([], pa.string())).shape == (0, 2)
