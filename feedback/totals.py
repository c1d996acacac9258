"""The counters of experiments in process: what ``append.lua`` keeps beside the stream, in Python."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import combinations

from feedback.events import Comparison, Label, Response, Vote
from feedback.facts import arm_counts, entry_field
from feedback.protocols import ArmCounts, ResponseSummary

_FIELDS = {
    "votes": ("votes_squared", "up_squared", "up_votes"),
    "pairs": ("compared_squared", "wins_squared", "wins_compared"),
}


class Totals:
    """Counters by experiment and arm. ``known`` finds what is remembered of a response."""

    def __init__(self, known: Callable[[str], ResponseSummary | None]) -> None:
        self._known = known
        self._rows: defaultdict[str, defaultdict[str, defaultdict[str, float]]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(float))
        )
        self._subjects: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._entered: defaultdict[str, set[str]] = defaultdict(set)
        self._tallies: dict[tuple[str, str, str, str], tuple[float, float]] = {}
        # (experiment, subject, a, b) → voice → when it spoke of the two, and what a won
        self._voices: defaultdict[tuple[str, str, str, str], dict[str, tuple[float, float]]] = defaultdict(
            dict
        )

    def counts(self, experiment: str) -> dict[str, ArmCounts]:
        """Per arm name."""
        if experiment not in self._rows:
            return {}
        rows = self._rows[experiment].items()
        return {arm: arm_counts(row, len(self._subjects[experiment, arm])) for arm, row in rows}

    def expose(self, event: Response) -> None:
        """Count a response to its arm, and its subject's entry into the experiment."""
        if event.experiment is None:
            return
        row = self._rows[event.experiment][event.arm]
        row["exposures"] += 1
        row["errors"] += event.code >= 500
        row["completion_tokens"] += event.completion_tokens
        row["tokens_squared"] += event.completion_tokens**2
        row["duration_seconds"] += event.duration
        row["duration_squared"] += event.duration**2
        self._subjects[event.experiment, event.arm].add(event.subject)
        if event.comparison_id is not None or not event.arm_shares:
            return
        first = event.subject not in self._entered[event.experiment]
        self._entered[event.experiment].add(event.subject)
        for arm, share in event.arm_shares.items():
            if share:
                self._rows[event.experiment][arm]["expected_exposures"] += share
            if first:
                self._rows[event.experiment][arm][entry_field(event.arm_shares, arm)] += arm == event.arm

    def tally(self, event: Vote | Comparison | Label, sign: int, only: str | None = None) -> None:
        """Count (1) or take back (-1) what was said; ``only``: the part of it that touches one response."""
        if isinstance(event, Vote) and event.rating is not None:
            known = self._known(event.response_id)
            if known is not None and known.experiment is not None:
                self._rows[known.experiment][known.arm][event.rating] += sign
                self._add("votes", known, event.subject, sign if event.rating == "up" else 0, sign)
        elif isinstance(event, Comparison):
            placed = [(name, place) for place, group in enumerate(event.ranking) for name in group]
            for (a, above), (b, below) in combinations(placed, 2):
                if only is None or only in (a, b):
                    self._pair(a, b, 0.5 if above == below else 1.0, event, sign)

    def forget(self, subject: str) -> None:
        """Drop what is kept by subject; totals stay."""
        self._tallies = {key: value for key, value in self._tallies.items() if key[3] != subject}
        for key in [key for key in self._voices if key[1] == subject]:
            del self._voices[key]
        for subjects in self._entered.values():
            subjects.discard(subject)

    def _pair(self, a: str, b: str, won: float, event: Comparison, sign: int) -> None:
        """What one voice says of two replies; of all that a subject says of the two the newest counts."""
        if b < a:
            a, b, won = b, a, 1 - won
        first, second = self._known(a), self._known(b)
        if first is None or second is None or first.experiment is None:
            return
        if first.experiment != second.experiment or first.arm == second.arm:
            return
        voices = self._voices[first.experiment, event.subject, a, b]
        before = _newest(voices)
        if sign > 0:
            voices[event.feedback_id] = (event.time, won)
        elif voices.pop(event.feedback_id, None) is None:
            self._score(first, second, won, event.subject, -1)
            return
        after = _newest(voices)
        if before != after:
            for told, by in ((before, -1), (after, 1)):
                if told is not None:
                    self._score(first, second, told, event.subject, by)

    def _score(
        self, first: ResponseSummary, second: ResponseSummary, won: float, subject: str, sign: int
    ) -> None:
        for side, share in ((first, won), (second, 1 - won)):
            row = self._rows[side.experiment or ""][side.arm]
            row["wins"] += sign * share
            row["compared"] += sign
            self._add("pairs", side, subject, sign * share, sign)

    def _add(self, what: str, known: ResponseSummary, subject: str, won: float, n: float) -> None:
        key = (known.experiment or "", what, known.arm, subject)
        w, m = self._tallies.get(key, (0.0, 0.0))
        row = self._rows[known.experiment or ""][known.arm]
        squared, won_squared, product = _FIELDS[what]
        row[squared] += (m + n) ** 2 - m**2
        row[won_squared] += (w + won) ** 2 - w**2
        row[product] += (w + won) * (m + n) - w * m
        self._tallies[key] = (w + won, m + n)


def _newest(voices: Mapping[str, tuple[float, float]]) -> float | None:
    """What the newest says; of the same time that of the greater name, whichever came first."""
    return max((when, name, won) for name, (when, won) in voices.items())[2] if voices else None
