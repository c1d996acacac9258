"""Whatever is said, in whatever order it comes: the real store, its twin and a model of a few lines agree."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from feedback.events import Comparison, Event, Label, Report, Response, Vote
from feedback.facts import HISTORY, said, spoken_of
from feedback.ids import feedback_id
from feedback.log import RedisEventLog
from feedback.memory import MemoryEventLog
from feedback.protocols import EventLog
from tests.contract.making import EVEN, comparison, in_arm, label, report, vote

NAMES = [f"r{n}" for n in range(4)]
SUBJECTS = ["s1", "s2"]
names, subjects = st.sampled_from(NAMES), st.sampled_from(SUBJECTS)
times = st.integers(1, 12).map(float)  # few, so that many come late and some are the same
rankings = st.permutations(NAMES).flatmap(
    lambda order: st.sampled_from(
        [
            ((order[0],), (order[1],)),
            ((order[0], order[1]),),
            ((order[0],), (order[1], order[2])),
            ((order[0],), (order[1],), (order[2],), (order[3],)),
        ]
    )
)


class Model:
    """What should be known, in the plainest way: every saying in its voice, as it came."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.voices: defaultdict[str, list[Any]] = defaultdict(list)
        self.stands: dict[str, tuple[Any, float]] = {}  # the saying and when it was last confirmed
        self.responses: dict[str, Response] = {}
        self.reports: dict[str, Report] = {}
        self.votes_total = (
            0  # sayings that count: when a response that they speak of is known, and so its alias
        )
        self.uncounted: defaultdict[str, int] = defaultdict(int)  # by voice
        self.awaited: defaultdict[str, set[str]] = defaultdict(
            set
        )  # by response, the voices that came too early
        self.streamed: list[str] = []

    def append(self, event: Event) -> str:
        if event.event_id in self.seen:
            return "repeat"
        status, streams = "new", True
        if isinstance(event, Response):
            self.responses[event.response_id] = event
            self.votes_total += sum(self.uncounted.pop(voice, 0) for voice in self.awaited[event.response_id])
        elif isinstance(event, Report):
            said_of = self.reports.get(event.report_id, event)
            self.reports[event.report_id] = max(said_of, event, key=lambda one: (bool(one.verdict), one.time))
            if (bool(event.verdict), event.time) == (bool(said_of.verdict), said_of.time):
                self.reports[event.report_id] = event  # of the same time what comes later
        else:
            status, streams = self._say(self._whole(event))
        if status == "repeat":
            return status
        self.seen.add(event.event_id)
        if streams:
            self.streamed.append(event.event_id)
        return status

    def _whole(self, event: Vote | Comparison | Label) -> Vote | Comparison | Label:
        if isinstance(event, Vote) and event.response_id in self.responses:
            return replace(event, alias=self.responses[event.response_id].alias)
        return event

    def _say(self, event: Vote | Comparison | Label) -> tuple[str, bool]:
        stood = self.stands.get(event.feedback_id)
        if stood is not None and said(stood[0]) == said(event):
            self.stands[event.feedback_id] = (stood[0], max(stood[1], event.time))
            return "repeat", False
        self.voices[event.feedback_id].append(event)
        status = "new" if stood is None else "changed"
        if stood is not None and event.time < stood[1]:  # something newer stands
            return status, event.time < stood[0].time
        self.stands[event.feedback_id] = (event, event.time)
        if isinstance(event, Comparison) or (isinstance(event, Vote) and event.rating is not None):
            self._count(event)
        return status, True

    def _count(self, event: Vote | Comparison) -> None:
        for name in set(spoken_of(event)) - self.responses.keys():
            self.awaited[name].add(event.feedback_id)
        if self.responses.keys() & spoken_of(event):
            self.votes_total += 1
        else:
            self.uncounted[event.feedback_id] += 1

    def latest(self, name: str, subject: str) -> Vote | None:
        stood = self.stands.get(feedback_id(name, subject))
        return stood[0] if stood and isinstance(stood[0], Vote) and stood[0].rating else None

    def compared(self, arm: str) -> tuple[float, int]:
        """What the arm's responses won, and of how many pairs: of each two the newest that a subject said of them."""
        newest: dict[tuple[str, str, str], tuple[float, str, dict[str, float]]] = {}
        for voice, (stood, _) in self.stands.items():
            placed = {
                name: place
                for place, group in enumerate(stood.ranking if isinstance(stood, Comparison) else ())
                for name in group
            }
            for a, b in combinations(sorted(placed), 2):
                if placed[a] == placed[b]:
                    won = {a: 0.5, b: 0.5}
                else:
                    won = {a: float(placed[a] < placed[b]), b: float(placed[b] < placed[a])}
                said_last = (stood.time, voice, won)
                newest[stood.subject, a, b] = max(
                    said_last, newest.get((stood.subject, a, b), said_last), key=_of
                )
        told = [
            (self.responses[name].arm, share)
            for (_, a, b), (_, _, won) in newest.items()
            if {a, b} <= self.responses.keys() and self.responses[a].arm != self.responses[b].arm
            for name, share in won.items()
        ]
        shares = [share for other, share in told if other == arm]
        return sum(shares), len(shares)

    def thumbs(self, arm: str) -> tuple[int, int]:
        """Up and down of what stands on the arm's responses."""
        found = [
            stood.rating
            for stood, _ in self.stands.values()
            if isinstance(stood, Vote)
            and stood.response_id in self.responses
            and self.responses[stood.response_id].arm == arm
        ]
        return found.count("up"), found.count("down")


class AnyOrder(RuleBasedStateMachine):
    """Two logs and the model are told the same."""

    logs: dict[str, EventLog]
    store: redis.Redis

    @initialize()
    def begin(self) -> None:
        self.store.flushall()
        self.logs = {"real": RedisEventLog(self.store), "twin": MemoryEventLog()}
        self.model = Model()
        self.events: list[Event] = []
        self.claimed: dict[str, list[str]] = {"real": [], "twin": []}
        self.archived: dict[str, list[Event]] = {"real": [], "twin": []}

    def tell(self, *events: Event) -> None:
        self.events += events
        expected = [self.model.append(event) for event in events]
        for name, log in self.logs.items():
            assert [one.status for one in log.append(events)] == expected, name

    @rule(name=names)
    def is_served(self, name: str) -> None:
        arm = "control" if name in {"r0", "r3"} else "candidate"
        if name not in self.model.responses:
            self.tell(in_arm(name, arm, "s1", time=1.0, arm_shares=EVEN))

    @rule(name=names, subject=subjects, rating=st.sampled_from(["up", "down", None]), time=times)
    def votes(self, name: str, subject: str, rating: Any, time: float) -> None:
        self.tell(vote(name, rating, time, subject))

    @rule(name=names, subject=subjects, comment=st.sampled_from(["why", "é"]), time=times)
    def votes_with_words(self, name: str, subject: str, comment: str, time: float) -> None:
        self.tell(vote(name, "up", time, subject, comment=comment))

    @rule(ranking=rankings, about=st.sampled_from(["c1", "c2"]), subject=subjects, time=times)
    def ranks(self, ranking: Any, about: str, subject: str, time: float) -> None:
        self.tell(comparison(*ranking, on=about, subject=subject, time=time))

    @rule(name=names, subject=subjects, value=st.sampled_from([0.0, 0.5, 1.0]), time=times)
    def labels(self, name: str, subject: str, value: float, time: float) -> None:
        self.tell(label(name, {"tone": value}, time, subject))

    @rule(
        number=st.integers(0, 2),
        name=names,
        verdict=st.sampled_from([None, "upheld", "dismissed"]),
        time=times,
    )
    def reports(self, number: int, name: str, verdict: Any, time: float) -> None:
        self.tell(report(f"rp-{number}", name, time, verdict=verdict))

    @rule(data=st.data())
    def comes_again(self, data: st.DataObject) -> None:
        if self.events:
            self.tell(data.draw(st.sampled_from(self.events)))

    @rule(first=times, second=times, name=names)
    def comes_out_of_a_spool_in_one_group(self, first: float, second: float, name: str) -> None:
        group = [vote(name, "down", first), vote(name, "up", second)]
        self.tell(*group, *group)

    @rule(count=st.integers(1, 5), idle=st.sampled_from([0.0, 60.0]))
    def is_archived(self, count: int, idle: float) -> None:
        for name, log in self.logs.items():
            found = log.claim("w", count, idle)
            self.claimed[name] += [entry.position for entry in found]
            self.archived[name] += [entry.event for entry in found]

    @rule(count=st.integers(1, 5))
    def is_acknowledged(self, count: int) -> None:
        for name, log in self.logs.items():
            some, self.claimed[name] = self.claimed[name][:count], self.claimed[name][count:]
            log.ack(some)

    @rule()
    def is_trimmed(self) -> None:
        assert len({log.trim() for log in self.logs.values()}) == 1

    @invariant()
    def what_is_told_is_the_models(self) -> None:
        for log in getattr(self, "logs", {}).values():
            assert log.votes_total("heed") == self.model.votes_total
            for name in NAMES:
                assert (log.response(name) is not None) == (name in self.model.responses)
                for subject in SUBJECTS:
                    assert log.latest(name, subject) == self.model.latest(name, subject)
                    kept = self.model.voices[feedback_id(name, subject)][-HISTORY:]
                    assert log.sayings(feedback_id(name, subject)) == kept
            every = self.model.reports.values()
            assert sorted(map(str, log.reports(open_only=False))) == sorted(map(str, every))
            open_ones = [one.report_id for one in every if one.verdict is None]
            assert sorted(one.report_id for one in log.reports()) == sorted(open_ones)  # type: ignore[union-attr]
            counts = log.counts("exp")
            for arm in ("control", "candidate"):
                if arm in counts:
                    assert (counts[arm].up, counts[arm].down) == self.model.thumbs(arm)
                    assert (counts[arm].wins, counts[arm].compared) == self.model.compared(arm)

    @invariant()
    def both_logs_count_alike(self) -> None:
        if hasattr(self, "logs"):
            real, twin = self.logs["real"], self.logs["twin"]
            assert real.counts("exp") == pytest.approx(twin.counts("exp")) or real.counts(
                "exp"
            ) == twin.counts("exp")
            one, other = real.backlog(), twin.backlog()
            assert (one.events, one.votes) == (other.events, other.votes)
            for subject in SUBJECTS:
                assert real.responses_of(subject) == twin.responses_of(subject)
                assert sorted(map(str, real.spoken(subject))) == sorted(map(str, twin.spoken(subject)))

    def teardown(self) -> None:
        """All that was streamed is archived once acknowledged, and what stands of it is what stands in the log."""
        for name, log in getattr(self, "logs", {}).items():
            while entries := log.claim("last", 50, 0.0):
                self.archived[name] += [entry.event for entry in entries]
                log.ack([entry.position for entry in entries])
            once = {event.event_id: event for event in self.archived[name]}
            assert sorted(once) == sorted(self.model.streamed)
            assert log.backlog().events == 0
            newest = {
                event.feedback_id: event
                for event in sorted(once.values(), key=by_time)
                if hasattr(event, "rating")
            }
            stands = {
                voice: stood for voice, (stood, _) in self.model.stands.items() if isinstance(stood, Vote)
            }
            assert newest == stands, name


def _of(said_last: tuple[float, str, dict[str, float]]) -> tuple[float, str]:
    return said_last[:2]


def by_time(event: Event) -> float:
    return event.time


def test_real_store_twin_and_model_agree_whatever_is_said_in_whatever_order(store: redis.Redis) -> None:
    AnyOrder.store = store
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            derandomize=True,  # the same examples everywhere; more of them by hand, with other seeds
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
