"""What the indexes need to know of an event: what tells a repeat, and its place in experiments."""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import Any

import orjson

from feedback.errors import InvalidRecord
from feedback.events import Comparison, Event, Label, Report, Response, Vote
from feedback.protocols import ArmCounts, Entered, ResponseSummary

SEEN_SECONDS = 7 * 86400  # how long a repeated event id is recognised
FORGOTTEN_SECONDS = 90 * 86400  # how long a wish holds for what still waits in the spool of some host
KEEP_SECONDS = 90 * 86400  # how long an experiment that nobody sees any more keeps its subjects
HISTORY = 32  # sayings kept of one subject on one thing
SUBJECT_RESPONSES = 1000  # response ids kept of one subject

_WHOLE = {"exposures", "subjects", "up", "down", "compared", "errors", "completion_tokens"}


def prompt_mark(event: Response) -> str:
    """Equal for responses to the same prompt; empty when the prompt is not kept."""
    if not event.messages:
        return ""
    return hashlib.sha256(orjson.dumps(list(event.messages))).hexdigest()[:16]


def summary_of(event: Response) -> ResponseSummary:
    """What is remembered of a response, without its text."""
    return ResponseSummary(
        response_id=event.response_id,
        alias=event.alias,
        adapter=event.adapter,
        arm=event.arm,
        experiment=event.experiment,
        time=event.time,
        prompt=prompt_mark(event),
    )


def shape_of(event: Response) -> str:
    """What served it, as JSON: kept once for all responses that were served alike."""
    shape = {"alias": event.alias, "adapter": event.adapter, "arm": event.arm, "experiment": event.experiment}
    return orjson.dumps(shape).decode()


def said(event: Vote | Comparison | Label) -> str:
    """The content: two sayings of equal content are one."""
    match event:
        case Vote():
            parts: list[Any] = [event.rating, event.reasons, event.comment, event.correction]
        case Comparison():
            ranking = [sorted(group) for group in event.ranking]
            parts = [ranking, event.both_bad, event.preferred_side, event.reasons, event.comment]
        case Label():
            parts = [sorted(event.labels.items())]
    return orjson.dumps(parts).decode()


def report_order(event: Report) -> tuple[bool, float]:
    """Of two sayings about one report the greater counts: a verdict before none, then the newest by time."""
    return event.verdict is not None, event.time


def entry_field(shares: dict[str, float], arm: str) -> str:
    """The counter of subjects that entered the arm under these shares: ``entered:<phase>:<share>``."""
    return f"entered:{_phase(tuple(sorted(shares.items())))}:{shares[arm]!r}"


@lru_cache(maxsize=256)
def _phase(shares: tuple[tuple[str, float], ...]) -> str:
    """What names these shares: few differ, and every response has some."""
    return hashlib.sha256(orjson.dumps(shares)).hexdigest()[:8]


def check_times(event: Event) -> None:
    """Raises InvalidRecord for a time that is none: votes are ordered by it."""
    if not math.isfinite(event.time) or (isinstance(event, Response) and not math.isfinite(event.duration)):
        raise InvalidRecord("time", "and duration must be finite")


def mark_of(subject: str) -> str:
    """What stands for a subject that asked to be forgotten: says whether, not who."""
    return hashlib.sha256(f"forgotten\0{subject}".encode()).hexdigest()[:24]


def facts_of(event: Event, life_seconds: int) -> dict[str, Any]:
    """The facts ``append.lua`` works on; ``life_seconds``: how long votes on a response are taken.
    Raises InvalidRecord for a time that is none.
    """
    check_times(event)
    facts: dict[str, Any] = {
        "life": life_seconds,
        "seen": SEEN_SECONDS,
        "keep": KEEP_SECONDS,
        "subject": event.subject,
        "mark": mark_of(event.subject),
        "alias": event.alias,
        "time": repr(event.time),
    }
    match event:
        case Response():
            return facts | _response_facts(event)
        case Report():
            facts |= {"report_id": event.report_id, "verdict": event.verdict}
        case _:
            facts |= {"feedback_id": event.feedback_id, "said": said(event)}
    if isinstance(event, Vote):
        facts |= {"response_id": event.response_id, "rating": event.rating}
    if isinstance(event, Comparison):
        facts["ranking"] = event.ranking
    named = ("subject", "response_id", "rating", "ranking") + (
        ("feedback_id", "time") if isinstance(event, Comparison) else ()
    )
    counted = {name: facts[name] for name in named if name in facts}
    return facts | {"tally": orjson.dumps(counted).decode()}


def spoken_of(event: Vote | Comparison | Label) -> list[str]:
    """The responses of which the event counts something; of a vote that takes back, and of labels, none."""
    if isinstance(event, Comparison):
        return [name for group in event.ranking for name in group]
    return [event.response_id] if isinstance(event, Vote) and event.rating is not None else []


def _response_facts(event: Response) -> dict[str, Any]:
    shares = event.arm_shares
    return {
        "response_id": event.response_id,
        "shape": shape_of(event),
        "prompt": prompt_mark(event),
        "comparison_id": event.comparison_id,
        "experiment": event.experiment,
        "arm": event.arm,
        "code": event.code,
        "tokens": event.completion_tokens,
        "duration": event.duration,
        "shares": [[arm, share, entry_field(shares, arm)] for arm, share in shares.items()] or None,
    }


def arm_counts(row: dict[str, float], subjects: int) -> ArmCounts:
    """One arm's counters, by field name, as its ArmCounts."""
    values: dict[str, Any] = {"subjects": subjects}
    entered = []
    for name, value in row.items():
        if name.startswith("entered:"):
            _, phase, share = name.split(":")
            entered.append(Entered(phase, float(share), int(value)))
        else:
            values[name] = round(value) if name in _WHOLE else value
    return ArmCounts(**values, entered=tuple(sorted(entered)))
