"""From a candidate to a live adapter: a growing canary share, guardrails, promotion or rollback.

A simple and honest rule for now: the gate has already shown the candidate better offline; online it must
break no guardrail, and the votes on it must not say it is worse (an always-valid test, so looking every two
seconds is fair). Where the votes say better earlier, it is promoted earlier. An imported adapter has passed no
gate: it waits until a person promotes it or begins an experiment. Where the loop is ``off`` nothing is tried,
ramped or promoted; what is on trial is still taken back when a guardrail breaks.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import replace

from feedback.errors import Conflict, InvalidTransition
from feedback.protocols import AdapterRecord, AliasRecord, Arm, EventLog, ExperimentRecord, Registry
from feedback.states import stopped
from feedback.statistics import decide
from training.settings import TrainingSettings
from training.status import Status

CONTROL, CANDIDATE = "control", "candidate"
AWAY = 60.0
"""Seconds without a look after which the workers count as having been stopped."""


def trial(adapter: str) -> str:
    """The name of an adapter's experiment."""
    return f"canary-{adapter}"


class Review:
    """One look at one alias; called every few seconds, all its state is in the registry."""

    def __init__(
        self, registry: Registry, log: EventLog, settings: TrainingSettings, alias: AliasRecord
    ) -> None:
        self.registry, self.log, self.alias = registry, log, alias
        self.settings = settings.overridden(alias.thresholds)

    def look(self) -> str:
        """What was done, in words."""
        running = [e for e in self.registry.experiments(self.alias.name) if e.status == "running"]
        if any(experiment.owner == "people" for experiment in running):
            return "an experiment of people runs: the loop waits"
        if running:
            return self._judge(running[0])
        return self._begin()

    def _begin(self) -> str:
        adapters = self.registry.adapters(self.alias.name)
        for tried in adapters:
            if tried.state == "canary":
                self._give_up(tried)
        waiting = [one for one in adapters if one.state == "candidate" and one.gate]
        if not waiting:
            return "no candidate that has passed the gate"
        newest = waiting[-1]
        if self.alias.mode == "off":
            return f"the loop is off: {newest.id} is not tried"
        for older in waiting[:-1]:
            self.registry.transition(older.id, "retired", f"followed by {newest.id} before it was tried")
        against = next((one for one in adapters if one.id == (newest.gate or {}).get("against")), None)
        if against is not None and against.state == "rejected":
            why = f"begun from {against.id} and held against it, which was taken back since"
            self.registry.transition(newest.id, "retired", why)
            return f"{newest.id} is not tried: {why}"
        if not self._ready(newest):
            if self._awaited(newest) > self.settings.review_ready_seconds:
                self.registry.transition(newest.id, "rejected", "no engine could prove it in time")
            return f"{newest.id} is not ready on every engine"
        share = self.settings.stages[0] if self.settings.stages else 0.0
        record = ExperimentRecord(
            name=trial(newest.id),
            alias=self.alias.name,
            arms=(
                Arm(name=CONTROL, adapter=self.alias.live, share=1 - share),
                Arm(name=CANDIDATE, adapter=newest.id, share=share),
            ),
            salt=secrets.token_hex(8),
            owner="loop",
            created=time.time(),
            history=({"time": time.time(), "what": f"share {share:.0%}", "reason": "passed the gate"},),
        )
        try:
            self.registry.put_experiment(record)
        except (Conflict, InvalidTransition) as error:  # somebody else was at it since the alias was read
            return f"{newest.id} is not tried yet: {error}"
        self.registry.transition(newest.id, "canary", f"tried on {share:.0%} of subjects")
        return f"{newest.id} is tried on {share:.0%}"

    def _give_up(self, record: AdapterRecord) -> None:
        """Its trial was ended by a rollback or by people, so what it would be compared with is another now, or
        nobody wants to. It is not tried again by itself; people may still make it live.
        """
        trials = [one for one in self.registry.experiments(self.alias.name) if one.name == trial(record.id)]
        why = next((f"its trial ended: {one.history[-1]['reason']}" for one in trials), "it is on no trial")
        self.registry.transition(record.id, "retired", why)

    def _ready(self, record: AdapterRecord) -> bool:
        engines = self.registry.engines()
        return bool(engines) and all(record.id in ready for ready in engines.values())

    def _awaited(self, record: AdapterRecord) -> float:
        """Seconds for which the engines could have proved it. They begin anew where no gateway tells of an engine, or
        nobody looked for a while: a candidate of before everything was stopped is not to blame.
        """
        told, now = self.registry.loop(self.alias.name).get("awaited") or {}, time.time()
        pause = max(AWAY, 3 * self.settings.tick_seconds)
        same = told.get("adapter") == record.id and 0 <= now - told["seen"] <= pause
        since = float(told["since"]) if same and self.registry.engines() else now
        awaited = {"adapter": record.id, "since": since, "seen": now}
        self.registry.set_loop(self.alias.name, {"awaited": awaited})
        return now - since

    def _judge(self, experiment: ExperimentRecord) -> str:
        candidate = next(arm for arm in experiment.arms if arm.name == CANDIDATE)
        record = self.registry.adapter(candidate.adapter or "")
        if record.state == "candidate":  # a worker was killed between beginning the experiment and saying so
            record = self.registry.transition(
                record.id, "canary", f"tried on {candidate.share:.0%} of subjects"
            )
        if record.state != "canary":
            return self._end(experiment, f"{record.id} is {record.state}")
        counts = self.log.counts(experiment.name)
        if CONTROL in counts and CANDIDATE in counts:
            verdict = decide(counts[CONTROL], counts[CANDIDATE])
            if verdict.action in ("roll_back", "stop"):
                self.registry.transition(record.id, "rejected", verdict.reason)
                return self._end(experiment, verdict.reason)
            if verdict.action == "promote" and self.alias.mode != "off":
                return self._promote(record, verdict.reason)
        return self._go_on(experiment, candidate, record)

    def _go_on(self, experiment: ExperimentRecord, candidate: Arm, record: AdapterRecord) -> str:
        """Nothing speaks against it."""
        if self.alias.mode == "off":
            return f"the loop is off: {record.id} stays at {candidate.share:.0%}"
        if time.time() - experiment.history[-1]["time"] < self.settings.review_stage_seconds:
            return "the stage goes on"
        larger = [share for share in self.settings.stages if share > candidate.share + 1e-9]
        if larger:
            return self._ramp(experiment, larger[0])
        return self._promote(record, "passed the gate; no guardrail broke and votes do not say worse")

    def _ramp(self, experiment: ExperimentRecord, share: float) -> str:
        arms = tuple(
            replace(arm, share=share if arm.name == CANDIDATE else 1 - share) for arm in experiment.arms
        )
        step = {"time": time.time(), "what": f"share {share:.0%}", "reason": "no guardrail broke"}
        self.registry.put_experiment(replace(experiment, arms=arms, history=(*experiment.history, step)))
        return f"{experiment.name} at {share:.0%}"

    def _promote(self, record: AdapterRecord, reason: str) -> str:
        if self.alias.mode == "approve":
            return f"{record.id} waits for a person: POST /v1/adapters/{record.id}/promote"
        self.registry.promote(self.alias.name, record.id, reason)  # and the experiment ends
        if record.newest_vote is not None:
            fresh = time.time() - record.newest_vote
            self.registry.set_loop(self.alias.name, {"freshness_seconds": fresh})
            Status(self.registry, self.alias.name).gauges({"freshness_seconds": fresh})
        return f"{record.id} is live"

    def _end(self, experiment: ExperimentRecord, reason: str) -> str:
        self.registry.put_experiment(stopped(experiment, reason))
        return f"{experiment.name} ended: {reason}"
