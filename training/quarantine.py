"""Which standing votes look arranged, and why: what a batch leaves out until an operator has looked.

A function of the votes alone: no clock, no chance, no order of rows, so that a batch can be built again. Each
statistic (``training.bursts``) says which honest traffic it is held against and what the chance of its find is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from feedback.held import HeldVote, in_bursts
from feedback.protocols import Registry
from training.bursts.cliques import cliques
from training.bursts.downs import downs
from training.bursts.newcomers import newcomers
from training.bursts.rate import rate
from training.bursts.sayings import Sayings
from training.bursts.script import script
from training.bursts.together import together
from training.bursts.words import words

# Each corrects for all that it looks at, and their levels (LEVEL) add up to less than one false alarm in a hundred
# searches of honest votes: Bonferroni's bound for the family.
SEARCHES = (rate, together, script, newcomers, words, cliques, downs)


def suspicious(votes: pa.Table) -> dict[str, str]:
    """Event id → ``"<kind>: <why>"`` of those in ``votes`` (``training.suspects.VOTES``) that look arranged."""
    sayings = Sayings.of(votes)
    found: dict[str, str] = {}
    if not len(sayings):
        return found
    for search in SEARCHES:
        for burst in search(sayings):
            for row in burst.rows:
                found.setdefault(sayings.ids[row], f"{burst.kind}: {burst.why}")
    return found


class Search:
    """The search of one round of an alias: people's verdicts as they stand when it begins, and what it finds."""

    def __init__(self, registry: Registry, alias: str, search: bool = True) -> None:
        self._registry, self._alias, self._search = registry, alias, search
        decided = [one for one in registry.quarantined(alias) if one.verdict is not None]
        self.released = frozenset(one.event_id for one in decided if one.verdict == "released")
        self._confirmed = {one.event_id: one for one in decided if one.verdict == "confirmed"}
        self._found: list[HeldVote] = []

    def suspicious(self, votes: pa.Table) -> dict[str, str]:
        """What is found now, and of what was confirmed before all that is among ``votes``."""
        found = suspicious(votes) if self._search else {}
        held = {name: found[name] for name in found if name not in self.released}
        said = _said(votes, {*held, *self._confirmed})
        self._found = in_bursts(self._alias, held, said, time.time())
        confirmed = {
            name: f"{one.kind}: {one.reason}" for name, one in self._confirmed.items() if name in said
        }
        return found | confirmed

    def tell(self) -> None:
        """Into the registry, for people. Called again after a crash it tells the same."""
        self._registry.hold(self._alias, self._found)


def _said(votes: pa.Table, events: set[str]) -> Mapping[str, tuple[str, float]]:
    """Event id → subject and time, of those ``events`` that are among the votes."""
    chosen = votes.filter(pc.is_in(votes["event_id"], pa.array(sorted(events), pa.string())))
    columns = (chosen[name].to_pylist() for name in ("event_id", "subject", "time"))
    return {event: (subject, said) for event, subject, said in zip(*columns, strict=True)}
