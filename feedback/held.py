"""What is kept of a vote in quarantine, and the rules by which it gets in and out.

A round leaves out what looks arranged and ``hold``s it. It stays there while rounds go on finding it; an operator
``decide``s: what is released counts from the next batch, what is confirmed never does. The vote itself is in the
archive all the time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Literal, Protocol, TypeAlias

from feedback.errors import UnknownRecord

KINDS = ("rate", "script", "newcomers", "word", "trio", "clique", "ring", "slow", "downs")
"""Of bursts, named after what gives them away: a closed set, for metrics."""
QuarantineVerdict: TypeAlias = Literal["released", "confirmed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldVote:
    """One vote or comparison that a round left out."""

    event_id: str
    alias: str
    burst: str  # "qb-…", of all that was found together
    kind: str  # of the burst, out of a closed set
    reason: str  # for people
    subject: str
    time: float  # when it was said, Unix seconds
    found: float  # when a round first left it out, Unix seconds
    verdict: QuarantineVerdict | None = None  # None: nobody has decided
    decided: float | None = None  # Unix seconds


class Quarantine(Protocol):
    """The votes that are kept out of training. No method bumps the registry's generation."""

    def hold(self, alias: str, found: Sequence[HeldVote]) -> None:
        """What a round of the alias found. What was held before and is not found any more goes, unless it is
        decided; what is decided stays as it is. One atomic step, safe to repeat.
        """

    def quarantined(self, alias: str | None = None) -> list[HeldVote]:
        """All, decided ones too, the newest burst first."""

    def decide(self, name: str, verdict: QuarantineVerdict, now: float) -> list[HeldVote]:
        """Decide one event, or all of a burst, by its id; a verdict may be changed. Raises UnknownRecord."""

    def drop_held(self, subject: str) -> None:
        """The subject asked to be forgotten."""


def burst_of(alias: str, events: Iterable[str]) -> str:
    """A name for what was found together."""
    first = min(events)
    return "qb-" + sha256(f"{alias}\0{first}".encode()).hexdigest()[:16]


def in_bursts(
    alias: str, found: Mapping[str, str], said: Mapping[str, tuple[str, float]], now: float
) -> list[HeldVote]:
    """``found`` is event id → ``"<kind>: <why>"``; events of one reason are one burst. ``said`` is event id →
    subject and time.
    """
    events: dict[str, list[str]] = {}
    for event, reason in found.items():
        events.setdefault(reason, []).append(event)
    return [
        HeldVote(
            event_id=event,
            alias=alias,
            burst=burst_of(alias, together),
            kind=reason.partition(":")[0],
            reason=reason.partition(": ")[2] or reason,
            subject=said[event][0],
            time=said[event][1],
            found=now,
        )
        for reason, together in events.items()
        for event in together
    ]


def after_round(standing: Iterable[HeldVote], alias: str, found: Sequence[HeldVote]) -> list[HeldVote]:
    """What is held of the alias once a round has found ``found``."""
    before = {one.event_id: one for one in standing if one.alias == alias}
    kept = [one for one in before.values() if one.verdict is not None]
    decided = {one.event_id for one in kept}
    first = {event: one.found for event, one in before.items()}
    new = [
        replace(one, found=first.get(one.event_id, one.found)) for one in found if one.event_id not in decided
    ]
    return kept + new


def decided(
    standing: Collection[HeldVote], name: str, verdict: QuarantineVerdict, now: float
) -> list[HeldVote]:
    """The event or the burst of that name with its verdict. Raises UnknownRecord."""
    meant = [one for one in standing if name in (one.event_id, one.burst)]
    if not meant:
        raise UnknownRecord("vote or burst in quarantine", name)
    return [replace(one, verdict=verdict, decided=now) for one in meant]


def counts_of(held: Iterable[HeldVote]) -> dict[tuple[str, str, str], int]:
    """Votes by alias, kind and verdict; every kind of an alias that has any is there, open ones with 0."""
    counts: dict[tuple[str, str, str], int] = {}
    for one in held:
        for kind in KINDS:
            counts.setdefault((one.alias, kind, "open"), 0)
        key = (one.alias, one.kind if one.kind in KINDS else "other", one.verdict or "open")
        counts[key] = counts.get(key, 0) + 1
    return counts


def listed(held: Iterable[HeldVote], alias: str | None) -> list[HeldVote]:
    """The newest burst first, its votes as they were said."""
    chosen = [one for one in held if alias is None or one.alias == alias]
    newest: dict[str, float] = {}
    for one in chosen:
        newest[one.burst] = max(one.time, newest.get(one.burst, one.time))
    return sorted(chosen, key=lambda one: (-newest[one.burst], one.burst, one.time, one.event_id))
