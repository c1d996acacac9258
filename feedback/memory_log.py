"""The event log in process: the twin of ``log.RedisEventLog``."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from feedback.appended import Appended
from feedback.events import Comparison, Event, Label, Report, Response, Vote
from feedback.facts import (
    HISTORY,
    SUBJECT_RESPONSES,
    check_times,
    mark_of,
    report_order,
    said,
    spoken_of,
    summary_of,
)
from feedback.ids import feedback_id
from feedback.protocols import ArmCounts, Backlog, Entry, ResponseSummary
from feedback.texts import belongs
from feedback.totals import Totals

Spoken = Vote | Comparison | Label


@dataclass(slots=True)
class _Voice:
    """What one subject said about one thing."""

    standing: Spoken
    confirmed: float  # time of the newest saying of the same content
    history: list[Spoken] = field(default_factory=list)
    uncounted: int = 0


@dataclass(slots=True)
class _Claim:
    consumer: str
    since: float  # monotonic


class MemoryEventLog:
    """See ``protocols.EventLog``."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._stream: dict[str, tuple[Event, float]] = {}
        self._next = 1
        self._delivered = 0
        self._claims: dict[str, _Claim] = {}
        self._seen: set[str] = set()
        self._voices: dict[str, _Voice] = {}
        self._responses: dict[str, ResponseSummary] = {}
        self._subjects: defaultdict[str, list[str]] = defaultdict(list)
        self._reports: dict[str, Report] = {}
        self._awaited: defaultdict[str, set[str]] = defaultdict(
            set
        )  # response id → who spoke of it too early
        self._votes: defaultdict[str, int] = defaultdict(int)
        self._forgotten: dict[str, float] = {}
        self._totals = Totals(self._responses.get)

    def append(self, events: Sequence[Event]) -> list[Appended]:
        for event in events:
            check_times(event)
        with self._lock:
            return [self._append(event) for event in events]

    def _append(self, event: Event) -> Appended:
        event = self._whole(event)
        fid = getattr(event, "feedback_id", None)
        if event.event_id in self._seen or event.time <= self._forgotten.get(mark_of(event.subject), -1.0):
            return Appended(event.event_id, "repeat", fid)
        status, streamed = "new", True
        match event:
            case Response():
                self._respond(event)
            case Report():
                old = self._reports.get(event.report_id)
                if old is None or report_order(event) >= report_order(old):
                    self._reports[event.report_id] = event
            case _:
                status, streamed = self._say(event)
        if status != "repeat":
            self._seen.add(event.event_id)
        if streamed:
            self._stream[f"{self._next}-0"] = (event, time.time())
            self._next += 1
        return Appended(event.event_id, status, fid)  # type: ignore[arg-type]

    def _whole(self, event: Event) -> Event:
        """A vote that came without the alias of its response gets it, where the response is known."""
        if not isinstance(event, Vote) or event.alias is not None:
            return event
        known = self._responses.get(event.response_id)
        return event if known is None else replace(event, alias=known.alias)

    def _say(self, event: Spoken) -> tuple[str, bool]:
        voice = self._voices.get(event.feedback_id)
        if voice is None:
            self._voices[event.feedback_id] = voice = _Voice(event, event.time, [event])
            self._stand(voice, event)
            return "new", True
        if said(voice.standing) == said(event):
            voice.confirmed = max(voice.confirmed, event.time)
            return "repeat", False
        voice.history = [*voice.history, event][-HISTORY:]
        if event.time < voice.confirmed:  # late: something newer stands
            return "changed", event.time < voice.standing.time
        self._totals.tally(voice.standing, -1)
        voice.standing, voice.confirmed = event, event.time
        self._stand(voice, event)
        return "changed", True

    def _stand(self, voice: _Voice, event: Spoken) -> None:
        self._totals.tally(event, 1)
        about = spoken_of(event)
        if not about:
            return
        for name in about:
            if name not in self._responses:
                self._awaited[name].add(event.feedback_id)
        known = [self._responses[name].alias for name in about if name in self._responses]
        alias = known[0] if known else event.alias
        if alias is None:
            voice.uncounted += 1
        else:
            self._votes[alias] += 1

    def _respond(self, event: Response) -> None:
        self._responses[event.response_id] = summary_of(event)
        self._subjects[event.subject] = [event.response_id, *self._subjects[event.subject]][
            :SUBJECT_RESPONSES
        ]
        self._totals.expose(event)
        for fid in self._awaited.pop(event.response_id, set()):
            voice = self._voices.get(fid)
            if voice is not None:
                self._totals.tally(voice.standing, 1, only=event.response_id)
                self._votes[event.alias] += voice.uncounted
                voice.uncounted = 0

    def claim(self, consumer: str, count: int, idle_seconds: float = 60.0) -> list[Entry]:
        now = time.monotonic()
        with self._lock:
            abandoned = [p for p, claim in self._claims.items() if now - claim.since >= idle_seconds]
            chosen = sorted(abandoned, key=_order)[:count]
            while len(chosen) < count and self._delivered + 1 < self._next:
                self._delivered += 1
                if f"{self._delivered}-0" in self._stream:  # else its subject was forgotten
                    chosen.append(f"{self._delivered}-0")
            for position in chosen:
                self._claims[position] = _Claim(consumer, now)
            return [Entry(position, self._stream[position][0]) for position in chosen]

    def ack(self, positions: Sequence[str]) -> None:
        with self._lock:
            for position in positions:
                self._claims.pop(position, None)

    def trim(self) -> int:
        with self._lock:
            floor = min((_order(position) for position in self._claims), default=self._delivered + 1)
            gone = [position for position in self._stream if _order(position) < floor]
            for position in gone:
                del self._stream[position]
            return len(gone)

    def backlog(self) -> Backlog:
        with self._lock:
            waiting = [
                item for p, item in self._stream.items() if _order(p) > self._delivered or p in self._claims
            ]
        votes = sum(isinstance(event, Vote | Comparison) for event, _ in waiting)
        oldest = max((time.time() - since for _, since in waiting), default=0.0)
        return Backlog(len(waiting), votes, max(0.0, oldest))

    def votes_total(self, alias: str) -> int:
        return self._votes.get(alias, 0)

    def response(self, response_id: str) -> ResponseSummary | None:
        return self._responses.get(response_id)

    def latest(self, response_id: str, subject: str) -> Vote | None:
        voice = self._voices.get(feedback_id(response_id, subject))
        standing = None if voice is None else voice.standing
        return standing if isinstance(standing, Vote) and standing.rating is not None else None

    def history(self, response_id: str, subject: str) -> list[Vote]:
        said = self.sayings(feedback_id(response_id, subject))
        return sorted((event for event in said if isinstance(event, Vote)), key=lambda vote: vote.time)

    def sayings(self, feedback_id: str) -> list[Event]:
        voice = self._voices.get(feedback_id)
        return [] if voice is None else list(voice.history)

    def spoken(self, subject: str) -> list[Event]:
        said = [*(voice.standing for voice in self._voices.values()), *self._reports.values()]
        return sorted((event for event in said if event.subject == subject), key=lambda event: event.time)

    def unarchived(self, subject: str) -> list[Event]:
        with self._lock:
            return [event for event, _ in self._stream.values() if event.subject == subject]

    def responses_of(self, subject: str, limit: int = 100) -> list[str]:
        return self._subjects.get(subject, [])[: max(0, limit)]

    def counts(self, experiment: str) -> dict[str, ArmCounts]:
        with self._lock:
            return self._totals.counts(experiment)

    def reports(self, open_only: bool = True) -> list[Event]:
        chosen = [report for report in self._reports.values() if report.verdict is None or not open_only]
        return sorted(chosen, key=lambda report: report.time)

    def forget(self, subject: str, before: float, responses: Collection[str] = ()) -> str:
        with self._lock:
            mark = mark_of(subject)
            self._forgotten[mark] = max(before, self._forgotten.get(mark, 0.0))
            for response_id in [*self._subjects.pop(subject, []), *responses]:
                self._responses.pop(response_id, None)
            self._voices = {k: v for k, v in self._voices.items() if v.standing.subject != subject}
            for report_id in [k for k, report in self._reports.items() if report.subject == subject]:
                del self._reports[report_id]
            self._totals.forget(subject)
            gone = [p for p, (event, _) in self._stream.items() if belongs(event, subject, before)]
            for position in gone:
                del self._stream[position]
                self._claims.pop(position, None)
            return f"{self._next - 1}-0"

    def forgotten(self, subjects: Collection[str]) -> dict[str, float]:
        names = {mark_of(subject): subject for subject in subjects}
        return {names[mark]: when for mark, when in self.wishes(names).items()}

    def wishes(self, marks: Collection[str]) -> dict[str, float]:
        return {mark: self._forgotten[mark] for mark in marks if mark in self._forgotten}

    def gone(self, position: str) -> bool:  # noqa: ARG002 - what is dropped here is gone
        return True

    def rewrite(self) -> bool:
        return True

    def rewritten(self) -> bool:
        return True

    def discard(self, before: float, texts_before: float) -> int:
        with self._lock:
            gone = [name for name, report in self._reports.items() if report.time < before]
            for name in gone:
                del self._reports[name]
            for name, report in self._reports.items():
                if report.time < texts_before:
                    self._reports[name] = replace(report, comment=None)
            return len(gone)

    def passed(self, position: str) -> bool:
        with self._lock:
            return all(_order(claimed) > _order(position) for claimed in self._claims)

    def ping(self) -> None:
        """Always there."""


def _order(position: str) -> int:
    return int(position.partition("-")[0])
