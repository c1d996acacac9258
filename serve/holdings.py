"""All that is held about one subject, as one JSON object, written as it is read: a subject's texts need not fit in
memory, what it said does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain
from typing import Any

import orjson

from feedback.archive import Archive
from feedback.events import Comparison, Event, Label, Report, Response, Vote
from feedback.protocols import EventLog

INTERNAL = frozenset({"event_id", "feedback_id", "subject", "schema"})
SAID = ("vote", "comparison", "label", "report")
LISTS: tuple[tuple[str, type[Event]], ...] = (
    ("votes", Vote),
    ("comparisons", Comparison),
    ("labels", Label),
    ("reports", Report),
)


def holdings(subject: str, log: EventLog, archive: Archive) -> Iterator[bytes]:
    """The pieces of the object. What was said is read before the first piece is asked for, so that a store that is
    away is told by the status: raises StoreUnavailable at once.

    What stands in the log and in the archive comes once. A wish to be forgotten that is not carried out yet leaves
    everything here.
    """
    waiting = list(log.unarchived(subject))
    said = _once(
        chain(
            (entry.event for entry in archive.of_subject(subject, SAID)),
            (event for event in waiting if not isinstance(event, Response)),
        )
    )
    served = chain(
        (entry.event for entry in archive.of_subject(subject, ("response",))),
        (event for event in waiting if isinstance(event, Response)),
    )
    return _pieces(subject, sorted(said, key=lambda event: event.time), served)


def _pieces(subject: str, said: list[Event], served: Iterable[Event]) -> Iterator[bytes]:
    votes = {
        event.response_id: event for event in said if isinstance(event, Vote)
    }  # the newest of each stands
    arms: dict[tuple[str, str], float] = {}
    since = min((event.time for event in said), default=None)
    yield b'{"object":"me","subject":' + orjson.dumps(subject) + b',"responses":['
    between = b""
    for event in _once(served):
        if isinstance(event, Response):
            yield between + orjson.dumps(_reply(event, votes.get(event.response_id)))
            between = b","
            since = event.time if since is None else min(since, event.time)
            if event.experiment is not None:
                place = (event.experiment, event.arm)
                arms[place] = min(event.time, arms.get(place, event.time))
    yield b"]"
    for name, kind in LISTS:
        told = [told_of(event) for event in said if isinstance(event, kind)]
        yield b"," + orjson.dumps(name) + b":" + orjson.dumps(told)
    assigned = [{"experiment": one, "arm": arm, "since": at} for (one, arm), at in sorted(arms.items())]
    yield b',"assignments":' + orjson.dumps(assigned) + b',"since":' + orjson.dumps(since) + b"}"


def told_of(event: Event) -> dict[str, Any]:
    """What was said, without what names it within Heed."""
    return {name: value for name, value in asdict(event).items() if name not in INTERNAL}


def _reply(event: Response, vote: Vote | None) -> dict[str, Any]:
    standing = vote if vote is not None and vote.rating is not None else None
    return {
        "response_id": event.response_id,
        "alias": event.alias,
        "time": event.time,
        "stored": event.stored,
        "messages": event.messages,
        "text": event.text,
        "rating": standing.rating if standing else None,
        "reasons": list(standing.reasons) if standing else [],
        "comment": standing.comment if standing else None,
        "correction": standing.correction if standing else None,
    }


def _once(events: Iterable[Event]) -> Iterator[Event]:
    seen: set[str] = set()
    for event in events:
        if event.event_id not in seen:
            seen.add(event.event_id)
            yield event
