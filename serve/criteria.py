"""What was said of each arm by criterion: raters' labels, the reasons on votes and on comparisons, out of the
archive.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from feedback.events import Comparison, Event, Label, Response, Vote

Said: TypeAlias = Vote | Comparison | Label


def by_criterion(experiment: str, events: Iterable[Event]) -> dict[str, dict[str, Any]]:
    """Arm → criterion → mean label and its count, thumbs up and down that gave it as a reason, and comparisons
    won and lost for it. Only the last saying of a subject about a thing counts.
    """
    arms: dict[str, str] = {}
    said: dict[tuple[tuple[str, ...], type], Said] = {}
    for event in events:
        if isinstance(event, Response) and event.experiment == experiment:
            arms[event.response_id] = event.arm
        elif isinstance(event, Said):
            key = (_voice(event), type(event))
            if key not in said or event.time >= said[key].time:
                said[key] = event
    table: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for one in said.values():
        for response_id, name, what, by in _counted(one):
            if response_id in arms:
                table[arms[response_id]][name][what] += by
    return {arm: {name: _shown(tally) for name, tally in rows.items()} for arm, rows in table.items()}


def _voice(said: Said) -> tuple[str, ...]:
    """A comparison and a ranking of the same responses are one."""
    if isinstance(said, Comparison):
        return (said.subject, *sorted(name for group in said.ranking for name in group))
    return (said.feedback_id,)


def _counted(said: Said) -> Iterator[tuple[str, str, str, int]]:
    """Response, criterion, which count, by how much."""
    match said:
        case Label():
            for name, score in said.labels.items():
                yield said.response_id, name, "labels", 1
                yield said.response_id, name, "micro", round(score * 1e6)
        case Vote() if said.rating is not None:
            for name in said.reasons:
                yield said.response_id, name, said.rating, 1
        case Comparison() if len(said.ranking) > 1:
            for name in said.reasons:
                for what, group in (("won", said.ranking[0]), ("lost", said.ranking[-1])):
                    for response_id in group:
                        yield response_id, name, what, 1


def _shown(tally: Counter[str]) -> dict[str, Any]:
    labels = tally["labels"]
    mean = tally["micro"] / 1e6 / labels if labels else None
    counts = {what: tally[what] for what in ("up", "down", "won", "lost")}
    return {"label_mean": mean, "labels": labels, **counts}
