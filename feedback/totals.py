"""The counters of experiments in process: what ``append.lua`` keeps beside the stream, in Python."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
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
                    self._pair(
                        self._known(a), self._known(b), 0.5 if above == below else 1.0, event.subject, sign
                    )

    def forget(self, subject: str) -> None:
        """Drop what is kept by subject; totals stay."""
        self._tallies = {key: value for key, value in self._tallies.items() if key[3] != subject}
        for subjects in self._entered.values():
            subjects.discard(subject)

    def _pair(
        self, a: ResponseSummary | None, b: ResponseSummary | None, won: float, subject: str, sign: int
    ) -> None:
        if a is None or b is None or a.experiment is None or a.experiment != b.experiment or a.arm == b.arm:
            return
        for side, share in ((a, won), (b, 1 - won)):
            row = self._rows[a.experiment][side.arm]
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
