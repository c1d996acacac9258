"""How far raters agree: Krippendorff's alpha, and each rater's own share in it.

Alpha compares the disagreement among raters with what chance would give: 1 is perfect agreement, 0 is chance, below 0
is worse (Krippendorff, Content Analysis, 2004, ch. 11; computed over the coincidences of pairable values, so raters
may each have judged something else). What is judged is every two replies of an item, and of them one is said to be
better, worse, or as good: three values in an order, so the distance of a tie to either side is less than of the sides
to each other.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, TypeAlias

from feedback.events import Comparison

Level: TypeAlias = Literal["nominal", "ordinal"]
Value: TypeAlias = int  # 1: the first of the two is better; 0: as good; -1: the second
Judgements: TypeAlias = Mapping[str, Mapping[str, Value]]  # of a thing: rater → value
PRIOR = 4.0  # things at the raters' mean that a rater's agreement begins with: few say little


@dataclass(frozen=True, slots=True)
class Rater:
    """How one rater agrees with the others."""

    name: str  # stands for the rater; neither an id nor the pseudonym of an end user
    items: int  # judged
    shared: int  # things that others judged too
    agreement: (
        float | None
    )  # mean agreement with the others on those, 0 to 1, a tie half; None: nothing was shared
    reliability: (
        float | None
    )  # the same, pulled to the mean of all by PRIOR things; None: nobody shared anything


def rater_name(rater: str) -> str:
    """Of a pseudonym; it cannot be followed back, and is the same everywhere."""
    digest = hashlib.sha256(b"rater\0" + rater.encode()).hexdigest()
    return f"rater-{digest[:6]}"


def judgements(said: Iterable[Comparison]) -> dict[str, dict[str, Value]]:
    """Every two options of an item and what each rater says of them; a rater's newest word counts."""
    newest: dict[tuple[str, str], Comparison] = {}
    for one in said:
        if one.item is not None:
            known = newest.get((one.item, one.subject))
            if known is None or one.time >= known.time:
                newest[one.item, one.subject] = one
    found: defaultdict[str, dict[str, Value]] = defaultdict(dict)
    for (item, rater), one in newest.items():
        place = {option: rank for rank, group in enumerate(one.order) for option in group}
        for a, b in combinations(sorted(place), 2):
            found[f"{item}/{a}-{b}"][rater] = (place[b] > place[a]) - (place[b] < place[a])
    return dict(found)


def alpha(things: Judgements, level: Level = "ordinal") -> float | None:
    """Krippendorff's alpha; None when no two raters judged the same thing, or all that was said is the same value."""
    pairs: Counter[tuple[Value, Value]] = Counter()
    weights: defaultdict[tuple[Value, Value], float] = defaultdict(float)
    for told in things.values():
        values = list(told.values())
        if len(values) > 1:
            pairs = Counter((a, b) for i, a in enumerate(values) for j, b in enumerate(values) if i != j)
            for pair, count in pairs.items():
                weights[pair] += count / (len(values) - 1)
    totals: defaultdict[Value, float] = defaultdict(float)
    for (a, _), weight in weights.items():
        totals[a] += weight
    distance = _distance(totals, level)
    total = sum(totals.values())
    expected = sum(totals[a] * totals[b] * distance(a, b) for a in totals for b in totals)
    if not expected:
        return None
    return 1 - (total - 1) * sum(weight * distance(a, b) for (a, b), weight in weights.items()) / expected


def _distance(totals: Mapping[Value, float], level: Level) -> Callable[[Value, Value], float]:
    """The squared difference of two values, by how often values between them are said when they have an order."""

    def nominal(a: Value, b: Value) -> float:
        return float(a != b)

    def ordinal(a: Value, b: Value) -> float:
        low, high = min(a, b), max(a, b)
        between = sum(count for value, count in totals.items() if low <= value <= high)
        return float((between - (totals[a] + totals[b]) / 2) ** 2)

    return nominal if level == "nominal" else ordinal


def raters(things: Judgements) -> list[Rater]:
    """All raters, the most reliable first; those who shared nothing last."""
    met: defaultdict[str, list[float]] = defaultdict(list)
    items: defaultdict[str, set[str]] = defaultdict(set)
    for thing, told in things.items():
        for rater, value in told.items():
            items[rater].add(thing.partition("/")[0])
            others = [other for name, other in told.items() if name != rater]
            if others:
                met[rater].append(sum(1 - abs(value - other) / 2 for other in others) / len(others))
    every = [agreed for shared in met.values() for agreed in shared]
    mean = sum(every) / len(every) if every else None
    found = [_rater(name, len(items[name]), met[name], mean) for name in items]
    return sorted(found, key=lambda one: (not one.shared, -(one.reliability or 0), -one.shared, one.name))


def _rater(name: str, items: int, met: Sequence[float], mean: float | None) -> Rater:
    agreement = sum(met) / len(met) if met else None
    reliability = None if mean is None else (sum(met) + PRIOR * mean) / (len(met) + PRIOR)
    return Rater(rater_name(name), items, len(met), agreement, reliability)
