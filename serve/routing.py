"""Which arm answers: alias → experiment → adapter, out of one immutable snapshot of the registry.

``RouteTable`` never changes; the watcher builds a new one and swaps the reference, so a request sees one
state of the world from its beginning to its end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from feedback.experiments import assign, shares
from feedback.protocols import AdapterRecord, AliasRecord, Arm, ExperimentRecord, KeyRecord
from serve.chat_request import LOGGED_SAMPLING
from serve.engines import BASE
from serve.errors import NotFound, Unavailable

LIVE, FALLBACK, PINNED = "live", "fallback", "pinned"  # arm names outside of experiments


@dataclass(frozen=True, slots=True)
class Plan:
    """How one response is to be made."""

    alias: str
    adapter: str  # adapter id, or "base"
    arm: str = LIVE
    experiment: str | None = None
    propensity: float = 1.0
    shares: Mapping[str, float] = field(default_factory=dict)  # of all arms in that draw; empty: none drawn
    sampling: Mapping[str, float | int] = field(default_factory=dict)
    guidelines: str = ""


@dataclass(frozen=True, slots=True)
class RouteTable:
    """One state of the registry."""

    generation: int = -1  # -1: the store was never reached
    aliases: Mapping[str, AliasRecord] = field(default_factory=dict)
    adapters: Mapping[str, AdapterRecord] = field(default_factory=dict)
    running: Mapping[str, ExperimentRecord] = field(default_factory=dict)  # by alias
    keys: Mapping[str, KeyRecord] = field(default_factory=dict)  # by digest, revoked ones left out
    draining: frozenset[str] = frozenset()  # engines that are to get no new chats
    # The plan of each alias's arm, made when first drawn: this table never changes, and so neither do they.
    _drawn: dict[tuple[str, str], Plan] = field(default_factory=dict, init=False, compare=False, repr=False)

    def alias(self, name: str) -> AliasRecord:
        """Raises NotFound in OpenAI's words."""
        record = self.aliases.get(name)
        if record is None:
            raise NotFound(f"the model {name!r} does not exist", param="model", code="model_not_found")
        return record

    def knows(self, alias: str, pinned: str | None) -> bool:
        """Whether there is a plan for these."""
        return alias in self.aliases and (pinned is None or pinned == BASE or pinned in self.adapters)

    def plan(self, alias: str, pinned: str | None, subject: str) -> Plan:
        """The arm of the subject; ``pinned`` names an adapter of the alias, or base, instead."""
        record = self.alias(alias)
        if pinned is not None:
            return self._pinned(record, pinned)
        experiment = self.running.get(alias)
        if experiment is not None:
            arm, propensity = assign(experiment, subject)
            plan = self._drawn.get((alias, arm.name))
            if plan is None:
                of_arm = _of_arm(record, experiment, arm)
                plan = replace(of_arm, propensity=propensity, shares=shares(experiment))
                self._drawn[alias, arm.name] = plan
            return plan
        return Plan(alias, record.live or BASE, guidelines=record.guidelines)

    def _pinned(self, record: AliasRecord, target: str) -> Plan:
        adapter = self.adapters.get(target)
        if target != BASE and (adapter is None or adapter.alias != record.name):
            message = f"the model '{record.name}:{target}' does not exist"
            raise NotFound(message, param="model", code="model_not_found")
        return Plan(record.name, target, arm=PINNED, guidelines=record.guidelines)

    def pair(self, alias: str, subject: str, draw: random.Random, base_share: float) -> tuple[Plan, Plan]:
        """Two plans to compare, sides at random: two arms of the experiment; else, with probability
        ``base_share``, the live adapter and the base; else two samples of what is live.
        """
        record = self.alias(alias)
        experiment = self.running.get(alias)
        if experiment is not None and len(experiment.arms) > 1:
            first, _ = assign(experiment, subject)
            second = _another(experiment.arms, first, draw)
            plans = [_of_arm(record, experiment, first), _of_arm(record, experiment, second)]
        else:
            live = self.plan(alias, None, subject)
            other = live
            if experiment is None and live.adapter != BASE and draw.random() < base_share:
                other = Plan(alias, BASE, arm=BASE, guidelines=record.guidelines)
            plans = [live, other]
        draw.shuffle(plans)
        return plans[0], plans[1]

    def fallback(self, plan: Plan, ready: Callable[[str], bool]) -> Plan:
        """The plan itself when its adapter is ready somewhere; else the alias's live adapter, else the
        newest of its former ones that is ready, else base. What replaces an arm is not part of its
        experiment. Raises Unavailable for a pinned adapter: who asks for one by name wants no other.
        """
        if ready(plan.adapter):
            return plan
        if plan.arm == PINNED and plan.adapter != BASE:
            raise Unavailable(
                f"{plan.adapter} is not ready on any engine", code="adapter_not_ready", retry_after=2
            )
        record = self.aliases[plan.alias]
        for adapter in (record.live, *record.previous):
            if adapter is not None and adapter != plan.adapter and ready(adapter):
                return Plan(plan.alias, adapter, arm=FALLBACK, guidelines=plan.guidelines)
        return Plan(plan.alias, BASE, arm=FALLBACK, guidelines=plan.guidelines)


def _of_arm(record: AliasRecord, experiment: ExperimentRecord, arm: Arm) -> Plan:
    sampling = {name: value for name, value in (arm.sampling or {}).items() if name in LOGGED_SAMPLING}
    return Plan(
        record.name,
        arm.adapter or BASE,
        arm=arm.name,
        experiment=experiment.name,
        sampling=sampling,
        guidelines=record.guidelines,
    )


def _another(arms: Sequence[Arm], first: Arm, draw: random.Random) -> Arm:
    """Another arm than ``first``, by share."""
    others = [arm for arm in arms if arm.name != first.name]
    weights = [max(arm.share, 1e-6) for arm in others]
    return draw.choices(others, weights)[0]
