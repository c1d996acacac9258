"""How far the raters of an alias agree, out of the archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from feedback.archive import Archive
from feedback.events import Comparison
from feedback.raters import Level, Rater, alpha, judgements, raters

LEVELS: tuple[Level, ...] = ("ordinal", "nominal")


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of all raters of an alias."""

    alpha: Mapping[Level, float | None]
    things: int  # every two replies of an item that anybody judged
    shared: int  # those of them that several judged
    raters: Sequence[Rater]


def agreement_of(place: Path | str, alias: str) -> Agreement:
    """Reads the comparisons of the whole archive; what was said in the last seconds is not there yet."""
    said = (entry.event for entry in Archive(place).events(kinds=("comparison",)))
    things = judgements(one for one in said if isinstance(one, Comparison) and one.alias == alias)
    shared = sum(len(told) > 1 for told in things.values())
    return Agreement({level: alpha(things, level) for level in LEVELS}, len(things), shared, raters(things))
