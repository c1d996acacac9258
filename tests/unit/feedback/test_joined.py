"""Sayings and their replies: what counts, in parts, and which prompts were asked."""

from __future__ import annotations

from typing import Any

from feedback.events import Event
from feedback.joined import FEW, Events, Joined, counting, joined, part
from tests.contract.making import comparison, label, report, response, vote

ONE = ({"role": "user", "content": "one"},)


def of(*events: Event, alias: str | None = "heed", prompts: int = 100) -> Joined:
    source = Events(events)
    return joined(source, counting(source, alias), alias, prompts)


def said(told: Joined) -> list[tuple[Any, ...]]:
    texts = told.replies["text"].to_pylist()
    rows = [(row["event_id"], texts[row["reply"]]) for row in told.votes.to_pylist()]
    rows += [(row["rating"], texts[row["a"]], texts[row["b"]]) for row in told.pairs.to_pylist()]
    return rows + [(row["detail"], texts[row["reply"]]) for row in told.labels.to_pylist()]


def asked(told: Joined) -> list[str]:
    return [prompt.split('"')[-2] for prompt in told.prompts.to_pylist()]


def test_a_saying_is_joined_to_its_reply_whichever_came_first() -> None:
    early, late = vote("r2", "up", 1.0, event_id="early"), vote("r1", "up", 2.0, event_id="late")
    told = of(early, response("r1"), response("r2"), late, label("r2", {"tone": 1.0}, 3.0))
    assert said(told) == [("early", "said r2"), ("late", "said r1"), ('{"tone":1.0}', "said r2")]


def test_what_is_about_another_alias_does_not_count_even_when_the_vote_names_none() -> None:
    events = [response("r1", alias="other"), vote("r1", "up", 2.0)]
    assert said(of(*events)) == []
    assert len(said(of(*events, alias="other"))) == len(said(of(*events, alias=None))) == 1


def test_two_replies_of_one_text_tell_nothing_but_that_both_are_bad() -> None:
    same = [response(name, messages=ONE, text="same") for name in ("a", "b")]
    assert said(of(*same, comparison(("a",), ("b",)))) == []
    assert said(of(*same, comparison(("a", "b")))) == []
    assert said(of(*same, comparison(("a", "b"), both_bad=True))) == [("both_bad", "same", "same")]


def test_of_a_pair_each_reply_must_be_the_subjects_and_known() -> None:
    mine = response("a", messages=ONE)
    for other in (
        response("b", "s2", messages=ONE),
        response("b", messages=ONE, stored=False),
        response("c"),
    ):
        assert said(of(mine, other, comparison(("a",), ("b",)))) == []
    assert len(said(of(mine, response("b", messages=ONE), comparison(("a",), ("b",))))) == 1


def test_a_correction_is_stripped_and_none_where_it_repeats_the_reply() -> None:
    events: list[Event] = [response(name) for name in ("r1", "r2", "r3")]
    for name, correction in (("r1", " better\n"), ("r2", "said r2 "), ("r3", " ")):
        events.append(vote(name, "down", float(name[1]), correction=correction))
    assert of(*events).votes["correction"].to_pylist() == ["better", None, None]


def test_prompts_are_the_aliases_newest_distinct_ones_in_the_order_in_which_they_were_last_asked() -> None:
    events = [
        response(f"r{n}", time=float(n), messages=({"role": "user", "content": f"q{n % 3}"},))
        for n in range(7)
    ]
    events.append(response("other", alias="other", time=9.0))
    assert asked(of(*events)) == ["q1", "q2", "q0"]
    assert asked(of(*events, prompts=2)) == ["q2", "q0"]
    assert asked(of(*events, report("rp-1", "r2"))) == ["q1", "q0"]
    assert asked(of(*events, prompts=0)) == []


def test_parts_are_oldest_first_whatever_was_said() -> None:
    replies = [response(name, messages=ONE) for name in ("a", "b", "c")]
    events = [
        vote("a", "up", 5.0), label("a", {"tone": 1.0}, 3.0), vote("b", "up", 1.0),
        comparison(("a",), ("b",), time=2.0),
    ]  # fmt: skip
    source = Events([*replies, *events])
    found = counting(source, "heed")
    parts = [part(found, begin, begin + 1) for begin in range(found.said)]
    assert [(len(one.votes), len(one.pairs), len(one.labels)) for one in parts] == [
        (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0)
    ]  # fmt: skip
    assert [part(found, 2, 9).said, counting(source, "heed", since=2.0).said] == [2, 2]


def test_nothing_is_joined_to_nothing() -> None:
    told = of()
    assert (said(told), asked(told), len(told.replies)) == ([], [], 0)


def test_who_asked_is_told_of_prompts_that_only_a_few_have_asked() -> None:
    events = [response(f"r{n}", f"s{n}", time=float(n), messages=ONE) for n in range(FEW + 1)]
    events += [response(f"q{n}", f"few{n}", time=20.0) for n in range(2)]  # each its own
    two = ({"role": "user", "content": "two"},)
    events += [response(f"t{n}", f"two{n}", time=30.0, messages=two) for n in range(FEW)]
    told = of(*events)
    assert len(told.prompts) == 4
    assert sorted(told.askers.to_pylist()) == ["few0", "few1", *(f"two{n}" for n in range(FEW))]
    assert of(*events, prompts=1).askers.to_pylist() == [f"two{n}" for n in range(FEW)]
