"""What every quarantine promises: found again or gone, decided or open, and nothing of the forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.errors import UnknownRecord
from feedback.held import HeldVote, in_bursts
from feedback.memory import MemoryRegistry
from feedback.protocols import Registry


def held(
    event: str, *, alias: str = "heed", burst: str = "qb-1", subject: str = "s1", time: float = 10.0
) -> HeldVote:
    return HeldVote(
        event_id=event,
        alias=alias,
        burst=burst,
        kind="rate",
        reason="much",
        subject=subject,
        time=time,
        found=99.0,
    )


def verdicts(registry: Registry) -> dict[str, str | None]:
    return {one.event_id: one.verdict for one in registry.quarantined()}


def test_what_a_round_found_reads_as_it_was_written_the_newest_burst_first(registry: Registry) -> None:
    old, new = held("ev-1", time=5.0), held("ev-2", burst="qb-2", time=7.0)
    registry.hold("heed", [old, new])
    assert registry.quarantined() == [new, old]
    assert registry.quarantined("heed") == [new, old]
    assert registry.quarantined("support") == []


def test_what_the_next_round_does_not_find_goes_unless_it_is_decided(registry: Registry) -> None:
    registry.hold("support", [held("ev-9", alias="support")])
    registry.hold("heed", [held("ev-1"), held("ev-2"), held("ev-3")])
    registry.decide("ev-1", "released", 100.0)
    registry.decide("ev-2", "confirmed", 101.0)
    registry.hold("heed", [held("ev-4")])
    assert verdicts(registry) == {"ev-1": "released", "ev-2": "confirmed", "ev-4": None, "ev-9": None}


def test_a_vote_that_is_found_again_keeps_its_verdict_and_when_it_was_first_found(registry: Registry) -> None:
    registry.hold("heed", [held("ev-1"), held("ev-2")])
    registry.decide("ev-1", "released", 100.0)
    registry.hold("heed", [replace(held("ev-1"), found=500.0), replace(held("ev-2"), found=500.0)])
    first, second = registry.quarantined()
    assert (first.verdict, first.decided, first.found) == ("released", 100.0, 99.0)
    assert (second.verdict, second.decided, second.found) == (None, None, 99.0)


def test_a_burst_is_decided_as_one_and_a_verdict_may_be_changed(registry: Registry) -> None:
    registry.hold("heed", [held("ev-1"), held("ev-2"), held("ev-3", burst="qb-2")])
    assert [one.event_id for one in registry.decide("qb-1", "confirmed", 100.0)] == ["ev-1", "ev-2"]
    assert verdicts(registry) == {"ev-1": "confirmed", "ev-2": "confirmed", "ev-3": None}
    registry.decide("ev-2", "released", 101.0)
    assert verdicts(registry) == {"ev-1": "confirmed", "ev-2": "released", "ev-3": None}


def test_what_is_not_held_cannot_be_decided(registry: Registry) -> None:
    registry.hold("heed", [held("ev-1")])
    with pytest.raises(UnknownRecord, match="quarantine 'ev-2'"):
        registry.decide("ev-2", "released", 100.0)
    assert verdicts(registry) == {"ev-1": None}


def test_a_forgotten_subject_is_held_no_more(registry: Registry) -> None:
    registry.hold("heed", [held("ev-1"), held("ev-2", subject="s2")])
    registry.decide("ev-1", "confirmed", 100.0)
    registry.drop_held("s1")
    registry.drop_held("s1")
    assert verdicts(registry) == {"ev-2": None}


def test_events_of_one_reason_are_one_burst_and_named_alike_by_every_round() -> None:
    said = {"ev-1": ("s1", 1.0), "ev-2": ("s2", 2.0), "ev-3": ("s3", 3.0)}
    found = {"ev-2": "rate: much", "ev-1": "rate: much", "ev-3": "script: even: pauses"}
    votes = {one.event_id: one for one in in_bursts("heed", found, said, 50.0)}
    assert votes["ev-1"].burst == votes["ev-2"].burst != votes["ev-3"].burst
    assert (votes["ev-3"].kind, votes["ev-3"].reason) == ("script", "even: pauses")
    assert (votes["ev-2"].subject, votes["ev-2"].time, votes["ev-2"].found) == ("s2", 2.0, 50.0)
    again = in_bursts("heed", dict(reversed(found.items())), said, 60.0)
    assert {one.event_id: one.burst for one in again} == {name: one.burst for name, one in votes.items()}


@given(
    steps=st.lists(
        st.one_of(
            st.sets(st.sampled_from("abcd")),
            st.tuples(st.sampled_from("abcd"), st.sampled_from(["released", "confirmed"])),
        ),
        max_size=8,
    )
)
def test_whatever_rounds_find_the_last_verdict_on_a_vote_stands(steps: list[object]) -> None:
    registry, told, open_ones = MemoryRegistry(), dict[str, str | None](), set[str]()
    for step in steps:
        if isinstance(step, set):
            registry.hold("heed", [held(name) for name in sorted(step)])
            open_ones = {name for name in step if name not in told}
        elif isinstance(step, tuple) and (step[0] in told or step[0] in open_ones):
            registry.decide(step[0], step[1], 1.0)
            told[step[0]] = step[1]
            open_ones.discard(step[0])
    assert verdicts(registry) == {**told, **dict.fromkeys(open_ones)}
