"""Makes events and records for tests, everything unimportant filled in."""

from __future__ import annotations

import itertools
from typing import Any

from feedback.events import Comparison, Label, Rating, Report, Response, Vote
from feedback.ids import feedback_id
from feedback.protocols import AdapterRecord, Arm, ExperimentRecord

_numbers = itertools.count()
EVEN = {"control": 0.5, "candidate": 0.5}


def response(name: str = "r1", subject: str = "s1", **fields: Any) -> Response:
    """A response to ``subject`` with the id ``name``."""
    defaults: dict[str, Any] = {
        "time": 100.0,
        "alias": "heed",
        "adapter": "base",
        "arm": "live",
        "messages": ({"role": "user", "content": f"asked {name}"},),
        "text": f"said {name}",
    }
    return Response(event_id=name, response_id=name, subject=subject, **{**defaults, **fields})


def in_arm(name: str, arm: str, subject: str | None = None, **fields: Any) -> Response:
    """A response in an arm of the experiment ``exp`` that splits evenly, to a subject of its own."""
    defaults: dict[str, Any] = {"experiment": "exp", "propensity": 0.5, "arm_shares": EVEN}
    return response(name, subject or f"s-{name}", arm=arm, **{**defaults, **fields})


def vote(on: str, rating: Rating | None, time: float, subject: str = "s1", **fields: Any) -> Vote:
    """A thumb, each with an event id of its own."""
    defaults: dict[str, Any] = {"event_id": f"ev-{next(_numbers)}", "feedback_id": feedback_id(on, subject)}
    return Vote(response_id=on, rating=rating, time=time, subject=subject, **{**defaults, **fields})


def comparison(
    *groups: tuple[str, ...], on: str = "c1", time: float = 200.0, subject: str = "s1", **fields: Any
) -> Comparison:
    """Ranked groups of response ids, best first."""
    defaults: dict[str, Any] = {"event_id": f"ev-{next(_numbers)}", "feedback_id": feedback_id(on, subject)}
    return Comparison(
        ranking=groups, time=time, subject=subject, **{"comparison_id": on, **defaults, **fields}
    )


def label(on: str, labels: dict[str, float], time: float, subject: str = "rater") -> Label:
    """A rater's scores."""
    return Label(
        event_id=f"ev-{next(_numbers)}",
        feedback_id=feedback_id(f"label:{on}", subject),
        response_id=on,
        time=time,
        subject=subject,
        labels=labels,
    )


def report(name: str, on: str, time: float = 300.0, subject: str = "s1", **fields: Any) -> Report:
    """A report that a response is unsafe."""
    return Report(
        event_id=f"ev-{next(_numbers)}",
        report_id=name,
        response_id=on,
        time=time,
        subject=subject,
        report_kind="unsafe",
        **fields,
    )


def adapter(name: str = "a-000001-0123456789ab", **fields: Any) -> AdapterRecord:
    """A candidate of ``heed``."""
    defaults: dict[str, Any] = {
        "alias": "heed",
        "state": "candidate",
        "created": 1.0,
        "path": name,
        "base": "b",
    }
    return AdapterRecord(id=name, **{**defaults, **fields})


def experiment(name: str = "exp", **fields: Any) -> ExperimentRecord:
    """An even split of ``heed`` between base and an adapter."""
    arms = (Arm(name="control", adapter=None, share=0.5), Arm(name="candidate", adapter="a-1", share=0.5))
    return ExperimentRecord(name=name, **{"alias": "heed", "arms": arms, "salt": "salt", **fields})
