"""What every event log counts for experiments."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.events import Event, Vote
from feedback.ids import feedback_id
from feedback.log import RedisEventLog
from feedback.memory import MemoryEventLog
from feedback.protocols import Entered, EventLog
from tests.contract.making import comparison, in_arm, response, vote
from tests.exploring import examples


def test_an_experiment_nobody_saw_has_no_counts(log: EventLog) -> None:
    log.append([response("r1")])
    assert log.counts("exp") == {}


def test_exposures_errors_tokens_and_durations_add_up(log: EventLog) -> None:
    log.append(
        [
            in_arm("r1", "control", "s1", completion_tokens=10, duration=0.5),
            in_arm("r2", "control", "s1", completion_tokens=20, duration=1.5, code=503),
            in_arm("r3", "candidate", "s2", completion_tokens=7, duration=0.25, code=499),
        ]
    )
    counts = log.counts("exp")
    control, candidate = counts["control"], counts["candidate"]
    assert (control.exposures, control.subjects, control.errors) == (2, 1, 1)
    assert (control.completion_tokens, control.tokens_squared) == (30, 500)
    assert (control.duration_seconds, control.duration_squared) == (2.0, 2.5)
    assert (candidate.exposures, candidate.subjects, candidate.errors) == (1, 1, 0)
    assert (control.expected_exposures, candidate.expected_exposures) == (1.5, 1.5)


def test_a_subject_enters_once_under_the_shares_of_that_time(log: EventLog) -> None:
    ramped = {"control": 0.75, "candidate": 0.25}
    log.append(
        [in_arm("r1", "control", "s1"), in_arm("r2", "control", "s1"), in_arm("r3", "candidate", "s2")]
    )
    log.append(
        [in_arm("r4", "candidate", "s1", arm_shares=ramped), in_arm("r5", "control", "s3", arm_shares=ramped)]
    )
    counts = log.counts("exp")
    by_share = {arm: {e.share: e.subjects for e in counts[arm].entered} for arm in counts}
    assert by_share == {"control": {0.5: 1, 0.75: 1}, "candidate": {0.5: 1, 0.25: 0}}
    phases = {arm: {e.phase for e in counts[arm].entered} for arm in counts}
    assert phases["control"] == phases["candidate"]
    assert len(phases["control"]) == 2


def test_responses_of_a_comparison_and_ones_without_shares_enter_nobody(log: EventLog) -> None:
    log.append(
        [in_arm("r1", "control", "s1", comparison_id="c1"), in_arm("r2", "control", "s2", arm_shares={})]
    )
    assert log.counts("exp")["control"].entered == ()
    log.append([in_arm("r3", "control", "s1")])
    assert [entered.subjects for entered in log.counts("exp")["control"].entered] == [1]
    assert all(isinstance(entered, Entered) for entered in log.counts("exp")["control"].entered)


def test_a_changed_vote_moves_and_one_taken_back_goes(log: EventLog) -> None:
    log.append([in_arm("r1", "control", "s1"), vote("r1", "up", 2.0)])
    assert (log.counts("exp")["control"].up, log.counts("exp")["control"].down) == (1, 0)
    log.append([vote("r1", "down", 3.0)])
    assert (log.counts("exp")["control"].up, log.counts("exp")["control"].down) == (0, 1)
    log.append([vote("r1", None, 4.0)])
    assert (log.counts("exp")["control"].up, log.counts("exp")["control"].down) == (0, 0)
    assert log.counts("exp")["control"].votes_squared == 0


def test_a_vote_is_counted_when_its_response_comes_after_it(log: EventLog) -> None:
    log.append([vote("r1", "up", 2.0), in_arm("r1", "candidate", "s1")])
    assert log.counts("exp")["candidate"].up == 1


def test_votes_of_one_subject_are_summed_before_they_are_squared(log: EventLog) -> None:
    log.append([in_arm(f"r{n}", "control", "s1") for n in range(3)])
    log.append([vote("r0", "up", 2.0), vote("r1", "up", 2.0), vote("r2", "down", 2.0)])
    control = log.counts("exp")["control"]
    assert (control.votes_squared, control.up_squared, control.up_votes) == (9, 4, 6)


def two_sides(log: EventLog, subject: str = "s1") -> None:
    log.append(
        [
            in_arm("a", "control", subject, comparison_id="c1"),
            in_arm("b", "candidate", subject, comparison_id="c1"),
        ]
    )


@pytest.mark.parametrize(
    ("groups", "wins"),
    [((("a",), ("b",)), (1.0, 0.0)), ((("b",), ("a",)), (0.0, 1.0)), ((("a", "b"),), (0.5, 0.5))],
    ids=["a won", "b won", "tie"],
)
def test_a_comparison_gives_a_win_or_half_to_each(
    log: EventLog, groups: tuple[tuple[str, ...], ...], wins: tuple[float, float]
) -> None:
    two_sides(log)
    log.append([comparison(*groups)])
    counts = log.counts("exp")
    assert (counts["control"].wins, counts["candidate"].wins) == wins
    assert (counts["control"].compared, counts["candidate"].compared) == (1, 1)
    assert log.votes_total("heed") == 1


def test_a_changed_comparison_takes_the_first_back(log: EventLog) -> None:
    two_sides(log)
    log.append([comparison(("a",), ("b",)), comparison(("b",), ("a",), time=201.0)])
    counts = log.counts("exp")
    assert (counts["control"].wins, counts["candidate"].wins, counts["candidate"].compared) == (0.0, 1.0, 1)


@pytest.mark.parametrize("late", [False, True], ids=["in order", "the older comes last"])
def test_a_comparison_and_a_ranking_of_its_sides_are_one_voice_and_the_newest_counts(
    log: EventLog, late: bool
) -> None:
    two_sides(log)
    two_sides_said = [comparison(("a",), ("b",)), comparison(("b",), ("a",), on="a+b", time=201.0)]
    log.append(two_sides_said[::-1] if late else two_sides_said)
    counts = log.counts("exp")
    assert (counts["control"].wins, counts["control"].compared) == (0.0, 1)
    assert (counts["candidate"].wins, counts["candidate"].compared) == (1.0, 1)
    candidate = counts["candidate"]
    assert (candidate.compared_squared, candidate.wins_squared, candidate.wins_compared) == (1, 1, 1)


def test_of_a_ranking_only_the_pair_that_a_newer_comparison_names_is_replaced(log: EventLog) -> None:
    two_sides(log)
    log.append([in_arm("c", "candidate", "s1")])
    log.append([comparison(("a",), ("b",), ("c",), on="a+b+c"), comparison(("b",), ("a",), time=201.0)])
    control = log.counts("exp")["control"]
    assert (control.wins, control.compared) == (1.0, 2), "it lost to b, and still won over c"
    log.append([comparison(("c",), ("a",), ("b",), on="a+b+c", time=202.0)])  # the ranking is said anew
    control = log.counts("exp")["control"]
    assert (control.wins, control.compared) == (1.0, 2), "it won over b, and lost to c"


def test_two_subjects_that_say_something_of_the_same_sides_are_two_voices(log: EventLog) -> None:
    two_sides(log)
    log.append([comparison(("a",), ("b",)), comparison(("b",), ("a",), on="a+b", time=201.0, subject="s2")])
    counts = log.counts("exp")
    assert (counts["control"].wins, counts["control"].compared) == (1.0, 2)


def test_one_voice_about_two_sides_is_one_when_a_side_is_known_only_later(log: EventLog) -> None:
    log.append([comparison(("b",), ("a",), on="a+b", time=201.0), comparison(("a",), ("b",))])
    two_sides(log)
    counts = log.counts("exp")
    assert (counts["candidate"].wins, counts["candidate"].compared) == (1.0, 1)


def test_a_comparison_before_its_responses_is_counted_when_both_are_known(log: EventLog) -> None:
    log.append([comparison(("a",), ("b",))])
    two_sides(log)
    counts = log.counts("exp")
    assert (counts["control"].wins, counts["control"].compared, counts["candidate"].compared) == (1.0, 1, 1)
    assert log.votes_total("heed") == 1


def test_two_samples_of_one_arm_tell_nothing_about_arms(log: EventLog) -> None:
    log.append(
        [in_arm("a", "control", "s1", comparison_id="c1"), in_arm("b", "control", "s1", comparison_id="c1")]
    )
    log.append([comparison(("a",), ("b",))])
    assert log.counts("exp")["control"].compared == 0


def test_a_ranking_counts_every_pair_of_different_arms(log: EventLog) -> None:
    log.append([in_arm("a", "x"), in_arm("b", "y"), in_arm("c", "y"), in_arm("d", "z")])
    log.append([comparison(("a",), ("b", "c"), ("d",))])
    counts = log.counts("exp")
    assert (counts["x"].wins, counts["x"].compared) == (3.0, 3)
    assert (counts["y"].wins, counts["y"].compared) == (2.0, 4)
    assert (counts["z"].wins, counts["z"].compared) == (0.0, 3)
    assert (counts["y"].compared_squared, counts["y"].wins_squared, counts["y"].wins_compared) == (16, 4, 8)


SAYINGS = st.lists(
    st.tuples(st.integers(1, 6), st.sampled_from([None, "up", "down"]), st.sampled_from([None, "why"])),
    min_size=1,
    max_size=9,
)


@examples(80)
@given(sayings=SAYINGS, known_at=st.integers(0, 9))
def test_in_whatever_order_votes_arrive_the_newest_stands_and_is_counted_once(
    log: EventLog, sayings: list[tuple[int, str | None, str | None]], known_at: int
) -> None:
    name = f"r-{vote('x', 'up', 0.0).event_id}"
    fresh = f"exp-{name}"
    events: list[Event] = [
        vote(name, rating, float(when), comment=comment)  # type: ignore[arg-type]
        for when, rating, comment in sayings
    ]
    newest = max(enumerate(events), key=lambda item: (item[1].time, item[0]))[1]
    assert isinstance(newest, Vote)
    events.insert(min(known_at, len(events)), in_arm(name, "control", "s1", experiment=fresh))
    for event in events:
        log.append([event])
    latest = log.latest(name, "s1")
    said = None if latest is None else (latest.rating, latest.comment)
    assert said == (None if newest.rating is None else (newest.rating, newest.comment))
    control = log.counts(fresh)["control"]
    assert (control.up, control.down) == (newest.rating == "up", newest.rating == "down")
    claimed = [entry.event for entry in log.claim("w", 10_000)]  # in a long run those of former examples, too
    streamed = [event for event in claimed if isinstance(event, Vote) and event.response_id == name]
    last = max(enumerate(streamed), key=lambda item: (item[1].time, item[0]))[1]
    assert (last.rating, last.comment) == (newest.rating, newest.comment)
    assert last.feedback_id == feedback_id(name, "s1")


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("see"), st.integers(0, 3), st.sampled_from(["control", "candidate"])),
        st.tuples(st.just("thumb"), st.integers(0, 3), st.sampled_from(["up", "down", None])),
        st.tuples(st.just("rank"), st.permutations([0, 1, 2, 3]), st.integers(0, 3)),
    ),
    max_size=12,
)


@examples(60)
@given(steps=EVENTS)
def test_the_server_and_its_twin_count_the_same(
    store: object, steps: list[tuple[str, object, object]]
) -> None:
    tag = vote("x", "up", 0.0).event_id
    logs = RedisEventLog(store), MemoryEventLog()  # type: ignore[arg-type]
    for moment, (what, one, other) in enumerate(steps):
        event: Event
        if what == "see":
            event = in_arm(
                f"{tag}-{one}", str(other), "s1", experiment=tag, comparison_id=f"{tag}-c", alias=tag
            )
        elif what == "thumb":
            event = vote(f"{tag}-{one}", other, float(moment))  # type: ignore[arg-type]
        else:
            names = [f"{tag}-{n}" for n in one]  # type: ignore[attr-defined]
            tied = tuple(names[: int(other)]) or (names[0],)  # type: ignore[call-overload]
            groups = (tied, *((name,) for name in names if name not in tied))
            about = f"{tag}-c" if int(other) % 2 else f"{tag}-ranking"  # type: ignore[call-overload]
            event = comparison(*groups, on=about, time=float(moment))
        first, second = (log.append([event]) for log in logs)
        assert first == second
    real, twin = (log.counts(tag) for log in logs)
    assert {arm: asdict(real[arm]) for arm in real} == {arm: asdict(twin[arm]) for arm in twin}
    assert logs[0].votes_total(tag) == logs[1].votes_total(tag)
