"""What the workers tell of themselves: the loop's state in the registry, and their gauges."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from feedback.protocols import Registry

if TYPE_CHECKING:  # these bring torch, which the control worker never needs
    from training.gate import GateReport
    from training.reward_model import RewardReport

HISTORY = 20
"""Rounds remembered."""
WORKERS = "_workers"
"""Where the workers' tasks report, among the aliases' states."""
TRAINING = "training"
"""The worker of that queue takes tasks, or is in a round."""
ROUND = "round"
"""A round that hung and ended its process tells so here."""
PPO_GAUGES = {
    "reward_last": "ppo_reward",
    **{name: f"ppo_{name}" for name in ("kl_nats", "clip_fraction", "entropy_nats")},
}
"""What a run calls its figures, and what the metrics call them."""


def worked(registry: Registry, task: str, **figures: float) -> None:
    """A task of the workers ended well just now."""
    registry.set_loop(WORKERS, {task: {"last_success": time.time(), **figures}})


def broke(registry: Registry, task: str, error: Exception) -> None:
    """A task of the workers failed just now; when it last ended well stays."""
    standing = registry.loop(WORKERS).get(task) or {}
    why = f"{type(error).__name__}: {error}"
    registry.set_loop(WORKERS, {task: {**standing, "last_failure": time.time(), "why": why}})


CURVE = ("samples", "reward_last", "kl_nats", "kl_base_nats", "clip_fraction", "entropy_nats")
"""Of each step of a run, what is kept to be drawn."""
POINTS = 200
"""Of a curve that are kept; the adapter's record has its own."""


class Status:
    """One alias's loop state, written as a round goes."""

    def __init__(self, registry: Registry, alias: str, heard: Callable[[], object] = lambda: None) -> None:
        """``heard`` is told of every sign of work, shown or not."""
        self._registry, self._alias, self._heard = registry, alias, heard
        self._begun = self._written = 0.0
        self._first: tuple[float, float] | None = None  # time and fraction of the step's first progress

    def step(self, name: str, fraction: float) -> None:
        """A step has begun."""
        self._heard()
        self._begun, self._first = time.time(), None
        told: dict[str, Any] = {
            "progress": fraction,
            "eta_seconds": None,
            "figures": {},
            "step_started": self._begun,
        }
        self._write({"step": name, **told})

    def progress(self, name: str, fraction: float, figures: Mapping[str, float]) -> bool:
        """How far the step is, at most twice a second; whether it was written."""
        self._heard()
        now = time.time()
        if now - self._written < 0.5 and fraction < 1.0:
            return False
        eta = self._left(now, fraction)
        self._write({"step": name, "progress": fraction, "eta_seconds": eta, "figures": dict(figures)})
        return True

    def _left(self, now: float, fraction: float) -> float | None:
        """Seconds to the end at the pace since the first progress: a step that was taken up began elsewhere."""
        since, done = self._first or (self._begun, 0.0)
        self._first = self._first or (now, fraction)
        return (now - since) * (1 - fraction) / (fraction - done) if fraction > done else None

    def _write(self, values: dict[str, Any]) -> None:
        self._written = time.time()
        self._registry.set_loop(self._alias, values)

    def gauges(self, values: Mapping[str, Any]) -> None:
        """Merge gauges."""
        standing = self._registry.loop(self._alias).get("metrics") or {}
        self._registry.set_loop(self._alias, {"metrics": {**standing, **values}})

    def reward_model(self, batch: str, figures: RewardReport, judge: RewardReport) -> None:
        """The reward model's figures."""
        said = {"batch": batch, **asdict(figures), "judge_accuracy": judge.accuracy}
        self._registry.set_loop(self._alias, {"last_reward_model": said})
        accuracy = [
            {"labels": {"split": "holdout"}, "value": figures.accuracy},
            {"labels": {"split": "train"}, "value": figures.train_accuracy},
        ]
        self.gauges(
            {"reward_model_accuracy": accuracy, "reward_model_calibration_error": figures.calibration_error}
        )

    def ppo(self, batch: str, run: Mapping[str, Any]) -> None:
        """The PPO run's figures, while it goes and at its end. A run that a kill threw back counts no reply twice; one
        that comes further than before a kill has not been begun in vain.
        """
        state = self._registry.loop(self._alias)
        metrics, told = state.get("metrics") or {}, state.get("run") or {}
        fresh: dict[str, Any] = {"samples": 0, "curve": []}
        so_far = told if told.get("batch") == batch else fresh
        total = metrics.get("ppo_samples_total", 0) + max(0, run["samples"] - so_far["samples"])
        gauges = {metric: run[name] for name, metric in PPO_GAUGES.items()}
        curve = [point for point in so_far["curve"] if point["samples"] < run["samples"]]
        curve.append({name: run[name] for name in CURVE if name in run})
        further = {"starts": 1} if run["samples"] > so_far["samples"] else {}
        self._registry.set_loop(
            self._alias,
            {
                **further,
                "metrics": {**metrics, **gauges, "ppo_samples_total": total},
                "run": {
                    "batch": batch,
                    "samples": max(so_far["samples"], run["samples"]),
                    "curve": curve[-POINTS:],
                },
            },
        )

    def gate(self, verdict: GateReport) -> None:
        """Counts of checks by verdict."""
        counts: dict[tuple[str, str], float] = {}
        for item in (self._registry.loop(self._alias).get("metrics") or {}).get("gate_checks_total", []):
            counts[item["labels"]["check"], item["labels"]["verdict"]] = item["value"]
        for check in verdict.checks:
            counts[check.check, check.verdict] = counts.get((check.check, check.verdict), 0) + 1
        told = [{"labels": {"check": c, "verdict": v}, "value": n} for (c, v), n in sorted(counts.items())]
        self.gauges({"gate_checks_total": told})

    def task(self, name: str, seconds: float) -> None:
        """A task ended well."""
        metrics = self._registry.loop(self._alias).get("metrics") or {}
        told = {}
        for metric, value in (
            ("task_last_success_timestamp_seconds", time.time()),
            ("task_duration_seconds", seconds),
        ):
            rows = {item["labels"]["task"]: item for item in metrics.get(metric, [])}
            rows[name] = {"labels": {"task": name}, "value": value}
            told[metric] = list(rows.values())
        self.gauges(told)

    def begun(self) -> int:
        """A round starts, or starts anew; returns how often it has, with this time."""
        starts = int(self._registry.loop(self._alias).get("starts") or 0) + 1
        first = {"round_started": time.time(), "cancel_requested": None} if starts == 1 else {}
        self._registry.set_loop(self._alias, {"starts": starts, "retry_at": None, **first})
        return starts

    def cancelled(self) -> bool:
        """Whether somebody asked for the end of this round since its first start, kills in between or not. By no
        clock: that of the gateway that heard the wish may be behind.
        """
        return bool(self._registry.loop(self._alias).get("cancel_requested"))

    def starts(self) -> int:
        """How often the round was begun since it last came further than ever before."""
        return int(self._registry.loop(self._alias).get("starts") or 1)

    def ended(self, started: float, batch: str | None, outcome: Mapping[str, Any]) -> None:
        """The round is over: keep how it went."""
        self._told(started, batch, outcome, {"unfinished": None, "starts": None})
        self.task("round", time.time() - started)

    def failed(self, started: float, batch: str | None, outcome: Mapping[str, Any], rest: float) -> None:
        """The round failed, and is begun anew from what it has after a rest of so many seconds."""
        self._told(started, batch, outcome, {"retry_at": time.time() + rest})

    def _told(
        self, started: float, batch: str | None, outcome: Mapping[str, Any], more: Mapping[str, Any]
    ) -> None:
        now = time.time()
        said = {"started": started, "ended": now, "seconds": now - started, "batch": batch, **outcome}
        history = [said, *(self._registry.loop(self._alias).get("history") or [])][:HISTORY]
        idle = {"step": None, "progress": None, "eta_seconds": None}
        self._registry.set_loop(self._alias, {**idle, "last_round": said, "history": history, **more})
