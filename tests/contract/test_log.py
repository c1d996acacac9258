"""What every event log promises about appending, claiming, acknowledging and forgetting."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from feedback.errors import InvalidRecord
from feedback.events import Vote
from feedback.facts import mark_of
from feedback.ids import feedback_id
from feedback.protocols import EventLog, ResponseSummary
from tests.contract.making import comparison, in_arm, label, report, response, vote


def statuses(log: EventLog, *events: object) -> list[str]:
    return [appended.status for appended in log.append(events)]  # type: ignore[arg-type]


def test_the_answers_come_in_order_with_the_ids_of_the_events(log: EventLog) -> None:
    said = vote("r1", "up", 2.0)
    first, second = log.append([response("r1"), said])
    assert (first.event_id, first.status, first.feedback_id) == ("r1", "new", None)
    assert (second.event_id, second.feedback_id) == (said.event_id, feedback_id("r1", "s1"))


def test_an_empty_group_is_answered_with_nothing(log: EventLog) -> None:
    assert log.append([]) == []


def test_the_same_event_twice_is_logged_once(log: EventLog) -> None:
    said = vote("r1", "up", 2.0)
    assert statuses(log, response("r1"), said, said) == ["new", "new", "repeat"]
    assert statuses(log, response("r1"), said) == ["repeat", "repeat"]
    assert len(log.claim("w", 10)) == 2
    assert log.votes_total("heed") == 1


def test_saying_the_same_again_writes_nothing(log: EventLog) -> None:
    assert statuses(log, response("r1"), vote("r1", "up", 2.0), vote("r1", "up", 3.0)) == [
        "new",
        "new",
        "repeat",
    ]
    assert len(log.claim("w", 10)) == 2
    assert len(log.history("r1", "s1")) == 1


@pytest.mark.parametrize(
    "change",
    [{"comment": "why"}, {"reasons": ("tone",)}, {"correction": "better"}],
    ids=lambda c: next(iter(c)),
)
def test_the_same_thumb_with_other_words_is_a_change(log: EventLog, change: dict[str, object]) -> None:
    assert statuses(log, vote("r1", "up", 2.0), vote("r1", "up", 3.0, **change)) == ["new", "changed"]


def test_another_rating_replaces_the_first_and_keeps_it_as_history(log: EventLog) -> None:
    assert statuses(log, response("r1"), vote("r1", "up", 2.0), vote("r1", "down", 3.0)) == [
        "new",
        "new",
        "changed",
    ]
    latest = log.latest("r1", "s1")
    assert latest is not None
    assert (latest.rating, latest.time) == ("down", 3.0)
    assert [past.rating for past in log.history("r1", "s1")] == ["up", "down"]


def test_a_vote_taken_back_stands_no_more_and_can_be_given_anew(log: EventLog) -> None:
    log.append([response("r1"), vote("r1", "up", 2.0), vote("r1", None, 3.0)])
    assert log.latest("r1", "s1") is None
    assert statuses(log, vote("r1", None, 4.0), vote("r1", "up", 5.0)) == ["repeat", "changed"]
    latest = log.latest("r1", "s1")
    assert latest is not None
    assert latest.rating == "up"
    assert log.votes_total("heed") == 2


def test_an_older_vote_out_of_a_spool_is_history_and_does_not_replace_the_newer(log: EventLog) -> None:
    assert statuses(log, vote("r1", "down", 9.0), vote("r1", "up", 5.0)) == ["new", "changed"]
    latest = log.latest("r1", "s1")
    assert latest is not None
    assert latest.rating == "down"
    assert [past.rating for past in log.history("r1", "s1")] == ["up", "down"]
    assert len(log.claim("w", 10)) == 2


def test_taking_back_what_is_still_in_a_spool_wins_over_it(log: EventLog) -> None:
    log.append([vote("r1", None, 9.0), vote("r1", "up", 5.0)])
    assert log.latest("r1", "s1") is None


def test_a_vote_between_the_standing_one_and_its_repetition_stays_out_of_the_stream(log: EventLog) -> None:
    log.append([vote("r1", "up", 1.0), vote("r1", "up", 9.0), vote("r1", "down", 5.0)])
    latest = log.latest("r1", "s1")
    assert latest is not None
    assert latest.rating == "up"
    streamed = [entry.event for entry in log.claim("w", 10)]
    assert [event.rating for event in streamed if isinstance(event, Vote)] == ["up"]


def test_the_history_of_one_voice_is_bounded(log: EventLog) -> None:
    log.append([vote("r1", "up" if n % 2 else "down", float(n)) for n in range(40)])
    assert [past.time for past in log.history("r1", "s1")] == [float(n) for n in range(8, 40)]


def test_all_that_was_said_in_one_voice_is_kept_as_it_came(log: EventLog) -> None:
    said = [comparison(("a",), ("b",)), comparison(("b",), ("a",), time=202.0)]
    log.append(said)
    assert log.sayings(said[0].feedback_id) == said
    assert log.sayings("fb-none") == []


def test_what_stands_of_all_a_subject_said_is_told_until_it_is_forgotten(log: EventLog) -> None:
    said = [
        vote("r1", "down", 3.0),
        comparison(("r1",), ("r2",), time=4.0),
        label("r1", {"tone": 0.5}, 5.0, subject="s1"),
        report("rp-1", on="r1", time=6.0),
    ]
    log.append([vote("r1", "up", 2.0), vote("r9", "up", 2.0, subject="s2"), *said])
    assert log.spoken("s1") == said
    log.forget("s1", before=10.0)
    assert log.spoken("s1") == []


def test_responses_to_the_same_prompt_have_the_same_mark(log: EventLog) -> None:
    hi = ({"role": "user", "content": "hi"},)
    log.append(
        [
            response("r1", messages=hi),
            response("r2", messages=hi),
            response("r3"),
            response("r4", messages=()),
        ]
    )
    marks = [known.prompt for known in map(log.response, ("r1", "r2", "r3", "r4")) if known is not None]
    assert marks[0] == marks[1] != marks[2]
    assert marks[3] == ""


def test_two_subjects_have_a_voice_each(log: EventLog) -> None:
    assert statuses(log, vote("r1", "up", 2.0, "s1"), vote("r1", "up", 2.0, "s2")) == ["new", "new"]
    assert log.history("r1", "s3") == []


def test_a_comparison_and_labels_are_deduplicated_by_content_too(log: EventLog) -> None:
    assert statuses(log, comparison(("a",), ("b",)), comparison(("a",), ("b",), time=201.0)) == [
        "new",
        "repeat",
    ]
    assert statuses(log, comparison(("b",), ("a",), time=202.0)) == ["changed"]
    assert statuses(log, label("r1", {"tone": 0.5}, 1.0), label("r1", {"tone": 0.5}, 2.0)) == [
        "new",
        "repeat",
    ]
    assert statuses(log, label("r1", {"tone": 0.7}, 3.0)) == ["changed"]


def test_a_response_is_remembered_without_its_text(log: EventLog) -> None:
    log.append([in_arm("r1", "candidate", "s1", adapter="a-1", comparison_id="c1", messages=())])
    assert log.response("r1") == ResponseSummary(
        response_id="r1",
        alias="heed",
        adapter="a-1",
        arm="candidate",
        experiment="exp",
        time=100.0,
    )
    assert log.response("r2") is None


def test_a_subjects_responses_come_newest_first(log: EventLog) -> None:
    log.append([response("r1"), response("r2"), response("r3"), response("r4", "s2")])
    assert log.responses_of("s1") == ["r3", "r2", "r1"]
    assert log.responses_of("s1", 2) == ["r3", "r2"]
    assert log.responses_of("s1", 0) == log.responses_of("nobody") == []


def test_votes_are_counted_for_the_alias_that_served_whatever_the_vote_says(log: EventLog) -> None:
    log.append(
        [response("r1", alias="support"), vote("r1", "up", 2.0), vote("r1", "down", 3.0, alias="heed")]
    )
    assert (log.votes_total("support"), log.votes_total("heed"), log.votes_total("other")) == (2, 0, 0)


def test_a_vote_without_an_alias_gets_that_of_its_response_where_it_is_known(log: EventLog) -> None:
    served = response("r1", alias="support")
    early, late = vote("r1", "up", 2.0, comment="né"), vote("r1", "down", 3.0, reasons=("tone",))
    back, told = vote("r1", None, 4.0), vote("r1", "up", 5.0, alias="other")
    log.append([early, served, late, back, told])
    kept = [early, replace(late, alias="support"), replace(back, alias="support"), told]
    assert [entry.event for entry in log.claim("w", 10)] == [kept[0], served, *kept[1:]]
    assert log.sayings(early.feedback_id) == kept


def test_a_vote_that_comes_before_its_response_is_counted_when_that_comes(log: EventLog) -> None:
    log.append([vote("r1", "up", 2.0), vote("r1", "down", 3.0)])
    assert log.votes_total("heed") == 0
    log.append([response("r1")])
    assert log.votes_total("heed") == 2
    log.append([vote("r1", "up", 4.0)])
    assert log.votes_total("heed") == 3


def test_a_ranking_that_comes_before_its_responses_counts_once_and_in_both_arms_when_they_come(
    log: EventLog,
) -> None:
    log.append([comparison(("a",), ("b",), on="a+b", comparison_id=None)])
    log.append([in_arm("a", "control", "s1")])
    assert (log.votes_total("heed"), log.counts("exp")["control"].compared) == (1, 0)
    log.append([in_arm("b", "candidate", "s1")])
    counts = log.counts("exp")
    assert log.votes_total("heed") == 1
    assert (counts["control"].wins, counts["control"].compared) == (1.0, 1)
    assert (counts["candidate"].wins, counts["candidate"].compared) == (0.0, 1)


def test_open_reports_are_those_without_a_verdict(log: EventLog) -> None:
    log.append([report("rp-1", "r1", 3.0), report("rp-2", "r2", 2.0)])
    log.append([report("rp-1", "r1", 4.0, verdict="dismissed")])
    assert [(one.report_id, one.verdict) for one in log.reports()] == [("rp-2", None)]  # type: ignore[union-attr]
    assert [one.report_id for one in log.reports(open_only=False)] == ["rp-2", "rp-1"]  # type: ignore[union-attr]


def test_entries_are_claimed_once_and_in_order(log: EventLog) -> None:
    log.append([response(f"r{n}") for n in range(5)])
    first, second = log.claim("a", 3), log.claim("b", 3)
    assert [entry.event.event_id for entry in [*first, *second]] == [f"r{n}" for n in range(5)]
    assert log.claim("a", 3) == []


def test_what_is_claimed_reads_as_it_was_appended(log: EventLog) -> None:
    events = [
        in_arm("r1", "control", "s1", sampling={"temperature": 0.7, "seed": 2**40}, duration=0.25),
        vote("r1", "down", 2.5, reasons=("wrong", "tone"), comment="é ☃ \u2028", correction="x", alias="x"),
        comparison(("a", "b"), ("c",), both_bad=False, reasons=("style",)),
        label("r1", {"tone": 0.25}, 3.0),
        report("rp-1", "r1", 4.0, comment="bad"),
    ]
    log.append(events)
    assert [entry.event for entry in log.claim("w", 10)] == events


def test_what_a_dead_worker_held_is_claimed_first_by_another(log: EventLog) -> None:
    log.append([response(f"r{n}") for n in range(4)])
    log.claim("dead", 2)
    assert [entry.event.event_id for entry in log.claim("b", 3, idle_seconds=0.0)] == ["r0", "r1", "r2"]


def test_what_is_acknowledged_is_not_claimed_again(log: EventLog) -> None:
    log.append([response("r1"), response("r2")])
    first, _ = log.claim("a", 2)
    log.ack([first.position])
    log.ack([first.position])
    log.ack([])
    assert [entry.event.event_id for entry in log.claim("b", 9, idle_seconds=0.0)] == ["r2"]


def test_trim_drops_neither_what_is_unread_nor_what_is_unacknowledged(log: EventLog) -> None:
    log.append([response(f"r{n}") for n in range(6)])
    held = log.claim("a", 4)
    log.ack([held[0].position, held[2].position])
    assert log.trim() == 1
    assert [e.event.event_id for e in log.claim("b", 9, idle_seconds=0.0)] == ["r1", "r3", "r4", "r5"]
    log.ack([entry.position for entry in log.claim("c", 9, idle_seconds=0.0)])
    assert log.trim() == 5
    log.append([response("r9")])
    assert log.trim() == 0
    assert [entry.event.event_id for entry in log.claim("c", 9)] == ["r9"]


def test_an_empty_log_has_no_backlog_and_nothing_to_claim(log: EventLog) -> None:
    backlog = log.backlog()
    assert (backlog.events, backlog.votes, backlog.oldest_seconds) == (0, 0, 0.0)
    assert log.claim("w", 5) == []
    assert log.trim() == 0


def test_the_backlog_counts_what_nobody_has_acknowledged(log: EventLog) -> None:
    log.append(
        [response("r1"), vote("r1", "up", 2.0), comparison(("a",), ("b",)), label("r1", {"t": 1.0}, 1.0)]
    )
    assert (log.backlog().events, log.backlog().votes) == (4, 2)
    held = log.claim("w", 2)
    assert (log.backlog().events, log.backlog().votes) == (4, 2)
    log.ack([entry.position for entry in held])
    assert (log.backlog().events, log.backlog().votes) == (2, 1)
    assert 0 <= log.backlog().oldest_seconds < 60
    log.ack([entry.position for entry in log.claim("w", 9)])
    log.trim()
    assert (log.backlog().events, log.backlog().votes, log.backlog().oldest_seconds) == (0, 0, 0.0)


def test_a_forgotten_subject_is_gone_from_log_and_indexes_and_others_stay(log: EventLog) -> None:
    log.append([response("r1"), vote("r1", "up", 2.0), report("rp-1", "r1"), response("r2", "s2")])
    log.append([vote("r2", "up", 2.0, "s2")])
    log.claim("w", 1)
    log.forget("s1", 1000.0)
    assert log.responses_of("s1") == []
    assert log.response("r1") is None
    assert log.latest("r1", "s1") is None
    assert log.history("r1", "s1") == []
    assert log.reports() == []
    assert (log.backlog().events, log.backlog().votes) == (2, 1)
    assert [entry.event.subject for entry in log.claim("w", 9, idle_seconds=0.0)] == ["s2", "s2"]
    assert log.latest("r2", "s2") is not None


def test_what_a_forgotten_subject_said_before_is_refused_and_what_it_says_later_is_taken(
    log: EventLog,
) -> None:
    log.forget("s1", 50.0)
    assert statuses(log, vote("r1", "up", 49.0), vote("r1", "up", 50.0)) == ["repeat", "repeat"]
    assert log.latest("r1", "s1") is None
    assert statuses(log, vote("r1", "up", 51.0)) == ["new"]
    assert len(log.claim("w", 9)) == 1


def test_a_position_is_passed_when_no_worker_holds_an_entry_up_to_it(log: EventLog) -> None:
    log.append([response("r1"), response("r2", "s2")])
    held = log.claim("w", 1)
    upto = log.forget("nobody", 1000.0)
    assert not log.passed(upto)
    log.ack([entry.position for entry in held])
    assert log.passed(upto)
    log.append([response("r3", "s2")])
    later = log.claim("w", 9)
    assert not log.passed(upto)
    log.ack([later[0].position])
    assert log.passed(upto)


def test_a_time_that_is_none_is_refused_with_its_whole_group(log: EventLog) -> None:
    for wrong in (vote("r1", "up", float("nan")), in_arm("r1", "control", duration=float("inf"))):
        with pytest.raises(InvalidRecord):
            log.append([response("r0"), wrong])
    assert log.claim("w", 9) == []


def test_a_log_that_is_there_answers_a_ping(log: EventLog) -> None:
    assert log.ping() is None  # an answer, where test_redis has one that raises


def test_whoever_asked_to_be_forgotten_is_known_by_the_newest_wish(log: EventLog) -> None:
    assert log.forgotten([]) == {}
    log.forget("s1", 50.0)
    log.forget("s1", 40.0)  # an older wish takes nothing back
    assert log.forgotten(["s1", "s2"]) == {"s1": 50.0}
    assert log.wishes([]) == {}
    many = [mark_of(f"s{number}") for number in range(5000)]
    assert log.wishes(many) == {mark_of("s1"): 50.0}


def test_responses_known_from_elsewhere_are_forgotten_with_the_others(log: EventLog) -> None:
    log.append([response("r1"), response("r2"), response("r3", "s2")])
    log.forget("s1", 0.0, ["r1", "r2"])
    assert [log.response(name) is None for name in ("r1", "r2", "r3")] == [True, True, False]


def test_old_reports_go_and_comments_of_others_earlier(log: EventLog) -> None:
    first, second, third = (
        replace(report(f"rp-{n}", "r1", float(n)), comment="private") for n in range(1, 4)
    )
    log.append([first, second, third])
    assert log.discard(before=2.0, texts_before=3.0) == 1
    assert log.reports() == [replace(second, comment=None), third]


def test_a_journal_is_rewritten_when_it_is_asked_for(log: EventLog) -> None:
    log.append([response("r1")])
    deadline = time.monotonic() + 120
    while not log.rewrite():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    while not log.rewritten():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert log.response("r1") is not None


def test_what_is_still_in_the_log_of_a_subject_is_found(log: EventLog) -> None:
    said = [response("r1"), vote("r1", "up", 200.0, alias="heed")]
    log.append([said[0], response("r2", "s2"), said[1]])
    assert log.unarchived("s1") == said
    assert log.unarchived("s3") == []


def test_of_a_report_the_newest_by_time_stands_and_a_verdict_before_none(log: EventLog) -> None:
    said = report("rp-1", "r1", 300.0, comment="first")
    log.append([replace(said, event_id="ev-late", time=310.0, comment="newer"), said])
    assert [one.time for one in log.reports()] == [310.0]
    upheld = replace(said, event_id="ev-up", time=320.0, verdict="upheld")
    log.append([replace(said, event_id="ev-down", time=330.0, verdict="dismissed"), upheld])
    log.append([replace(said, event_id="ev-open", time=340.0)])
    assert log.reports() == []
    (stands,) = log.reports(open_only=False)
    assert (stands.time, getattr(stands, "verdict", None)) == (330.0, "dismissed")
    assert len(log.claim("w", 10)) == 5, "all of it is archived"
