"""What was said of each arm by criterion: raters' labels and the reasons on votes, out of the archive."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from feedback.events import Event, Label, Response, Vote


def by_criterion(experiment: str, events: Iterable[Event]) -> dict[str, dict[str, Any]]:
    """Arm → criterion → mean label and its count, thumbs up and down that gave it as a reason. Only the
    last saying of a subject about a response counts.
    """
    arms: dict[str, str] = {}
    said: dict[tuple[str, type], Vote | Label] = {}
    for event in events:
        if isinstance(event, Response) and event.experiment == experiment:
            arms[event.response_id] = event.arm
        elif isinstance(event, Vote | Label):
            key = (event.feedback_id, type(event))
            if key not in said or event.time >= said[key].time:
                said[key] = event
    table: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for one in said.values():
        if one.response_id in arms:
            _add(table[arms[one.response_id]], one)
    return {arm: {name: _shown(tally) for name, tally in rows.items()} for arm, rows in table.items()}


def _add(rows: dict[str, Counter[str]], said: Vote | Label) -> None:
    if isinstance(said, Label):
        for name, score in said.labels.items():
            rows[name]["labels"] += 1
            rows[name]["micro"] += round(score * 1e6)
    elif said.rating is not None:
        for reason in said.reasons:
            rows[reason][said.rating] += 1


def _shown(tally: Counter[str]) -> dict[str, Any]:
    labels = tally["labels"]
    mean = tally["micro"] / 1e6 / labels if labels else None
    return {"label_mean": mean, "labels": labels, "up": tally["up"], "down": tally["down"]}
