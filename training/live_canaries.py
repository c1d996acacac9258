"""The gate's canaries on what is live, by schedule: people ask other things after an adapter was let through.

The live adapter and the base answer the newest prompts and the unsafe requests at temperature 1. A canary is broken
where the lower 95 % bound of the rise of its share over the base's is above the gate's bar; a smaller rise may be
chance. Safety has a bar of its own, since the gate's is none at all and many looks would cry wolf by chance.
What the gate saw of the same adapter stands beside it. An alias of the mode ``auto`` is then rolled back, which ends
an experiment of the loop, unless people run one, whose arms are theirs; otherwise the incident is told, and a person
decides.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from feedback.archive import Archive
from feedback.errors import InvalidTransition
from feedback.events import Message
from feedback.protocols import AdapterRecord, AliasRecord, Registry
from training.canaries import MANNERS, share
from training.choosing import newest_prompts
from training.gate import rise_lower
from training.rollouts import Sampler
from training.safety import prompts as unsafe_prompts
from training.safety import unsafe_share
from training.settings import TrainingSettings
from training.status import Status
from training.trunk import Trunk

logger = logging.getLogger(__name__)
PROMPTS = 64
"""Newest distinct prompts that are asked."""
REPLIES = 2
"""To each: with 64 alone, no share of the starter's could be beyond the widest bar without doubt."""
INCIDENTS = 20
"""Remembered, newest first."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one canary showed."""

    canary: str
    share: float  # of the live adapter's replies
    base: float  # of the base's, on the same prompts
    gate: float | None  # of the adapter's at its own gate; None: it passed none, or another one
    rise: float  # lower 95 % bound of share − base
    bar: float  # the gate's, for the rise
    replies: int

    @property
    def broken(self) -> bool:
        """Beyond the bar, and not by chance."""
        return self.rise > self.bar


def compared(
    live: Sequence[str], base: Sequence[str], settings: TrainingSettings, gate: Mapping[str, float]
) -> list[Seen]:
    """The manners, on replies of both to the same prompts. ``gate``: shares by canary, as noted then."""
    return [
        _seen(
            canary.name,
            (share(live, canary.shows), share(base, canary.shows)),
            len(live),
            canary.bar(settings),
            gate.get(canary.name),
        )
        for canary in MANNERS
    ]


def safety(live: Sequence[str], base: Sequence[str], settings: TrainingSettings) -> Seen:
    """The same of replies of both to the unsafe requests."""
    shares = (unsafe_share(live), unsafe_share(base))
    return _seen("safety", shares, len(live), settings.canary_max_unsafe, None)


def _seen(name: str, shares: tuple[float, float], replies: int, bar: float, gate: float | None) -> Seen:
    return Seen(name, *shares, gate, rise_lower(*shares, replies), bar, replies)


def asked(trunk: Trunk, adapter: Path | None, prompts: Sequence[Sequence[Message]], seed: int) -> list[str]:
    """One reply to each; None: the base's."""
    return [reply.text for reply in Sampler(trunk, adapter).sample(prompts, seed=seed)]


def noted(record: AdapterRecord) -> dict[str, float]:
    """What the gate saw of an adapter: check → value."""
    return {check["check"]: check["value"] for check in (record.gate or {}).get("checks", ())}


class Watch:
    """One look at what is live of one alias."""

    def __init__(self, registry: Registry, settings: TrainingSettings, alias: AliasRecord) -> None:
        self.registry, self.alias = registry, alias
        self.settings = settings.overridden(alias.thresholds)
        self.archive = Archive(settings.archive_place)

    def look(self, trunk: Trunk) -> str:
        """Ask, compare, tell, and react. Returns what came of it, in words. Raises StoreUnavailable."""
        began = time.time()
        if self.alias.live is None:
            return self._told(began, None, [], "the base is live: there is nothing to compare it with")
        record = self.registry.adapter(self.alias.live)
        newest = newest_prompts(self.archive, self.alias.name, PROMPTS)
        prompts = [*(one.messages for one in newest for _ in range(REPLIES)), *unsafe_prompts()]
        live = asked(trunk, Path(record.path), prompts, int(began))
        base = asked(trunk, None, prompts, int(began) + 1)
        count = REPLIES * len(newest)
        seen = compared(live[:count], base[:count], self.settings, noted(record))
        seen.append(safety(live[count:], base[count:], self.settings))
        broken = [one for one in seen if one.broken]
        if not broken:
            return self._told(began, record.id, seen, f"in good order in {count} replies")
        why = "; ".join(
            f"{one.canary} in {one.share:.0%} of {one.replies} replies, the base in {one.base:.0%}"
            for one in broken
        )
        logger.error("canaries of %s broke on the live %s: %s", self.alias.name, record.id, why)
        return self._told(began, record.id, seen, f"{why}: {self._react(record.id, why)}")

    def _react(self, live: str, why: str) -> str:
        """Roll back where the loop may. Returns what was done."""
        alias = self.registry.alias(self.alias.name)
        if alias.live != live:
            return "another one is live already"
        if alias.mode != "auto":
            return f"a person decides, in the mode {alias.mode}"
        running = [one for one in self.registry.experiments(alias.name) if one.status == "running"]
        if any(one.owner == "people" for one in running):
            return "an experiment of people runs, so a person decides"
        try:
            after = self.registry.rollback(alias.name, f"canaries: {why}")
        except InvalidTransition:
            return "there is nothing to roll back to"
        return f"rolled back to {after.live or 'the base'}"

    def _told(self, began: float, adapter: str | None, seen: Sequence[Seen], what: str) -> str:
        """Write the figures where ``GET /v1/loop`` and the metrics find them."""
        broken = [one.canary for one in seen if one.broken]
        said: dict[str, Any] = {"time": began, "adapter": adapter, "broken": broken, "what": what}
        state: dict[str, Any] = {"canaries": {**said, "seen": [asdict(one) for one in seen]}}
        if broken:
            known = self.registry.loop(self.alias.name).get("canary_incidents") or []
            if not known or (known[0]["adapter"], known[0]["broken"]) != (adapter, broken):
                state["canary_incidents"] = [said, *known][:INCIDENTS]
        self.registry.set_loop(self.alias.name, state)
        status = Status(self.registry, self.alias.name)
        status.gauges(gauges(seen))
        status.task("canaries", time.time() - began)
        return what


def gauges(seen: Sequence[Seen]) -> dict[str, Any]:
    """For the metrics; what is not seen any more is not shown any more."""
    shares = [
        {"labels": {"canary": one.canary, "of": of}, "value": value}
        for one in seen
        for of, value in (("live", one.share), ("base", one.base), ("gate", one.gate))
        if value is not None
    ]
    broken = [{"labels": {"canary": one.canary}, "value": float(one.broken)} for one in seen]
    return {"canary_share": shares, "canary_broken": broken}
