"""An experiment's report: figures per arm that hold whenever they are looked at, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feedback.protocols import ArmCounts, ExperimentRecord


def report_of(
    record: ExperimentRecord, counts: Mapping[str, ArmCounts], criteria: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The report as the API tells it. The first arm is the control. ``criteria`` is arm → what was said of
    it by criterion.
    """
    from feedback.statistics import expected_loss, probability_best, srm_evidence  # scipy: slow to import

    full = {arm.name: counts.get(arm.name, ArmCounts()) for arm in record.arms}
    best, loss = probability_best(full), expected_loss(full)
    arms = [
        {
            "name": arm.name,
            "adapter": arm.adapter,
            "share": arm.share,
            **_figures(full[arm.name]),
            "probability_best": best[arm.name],
            "expected_loss": loss[arm.name],
            "criteria": (criteria or {}).get(arm.name, {}),
        }
        for arm in record.arms
    ]
    return {
        "object": "experiment.report",
        "name": record.name,
        "alias": record.alias,
        "status": record.status,
        "arms": arms,
        "srm_evidence": srm_evidence(full),
        "verdicts": verdicts(record, full),
        "history": [dict(entry) for entry in record.history],
    }


def verdicts(record: ExperimentRecord, counts: Mapping[str, ArmCounts]) -> list[dict[str, Any]]:
    """What to do about each arm against the first, and why."""
    from feedback.statistics import decide

    control = record.arms[0].name
    said = []
    for arm in record.arms[1:]:
        verdict = decide(counts[control], counts[arm.name])
        figures = dict(verdict.figures)
        said.append({"arm": arm.name, "action": verdict.action, "reason": verdict.reason, "figures": figures})
    return said


def gauges_of(record: ExperimentRecord, counts: Mapping[str, ArmCounts]) -> dict[str, Any]:
    """The experiment's gauges for /metrics, in the form in which workers publish theirs."""
    report = report_of(record, counts)

    def by_arm(figure: str) -> list[dict[str, Any]]:
        rows = [({"experiment": record.name, "arm": arm["name"]}, arm[figure]) for arm in report["arms"]]
        return [{"labels": labels, "value": value} for labels, value in rows if value is not None]

    evidence = {"labels": {"experiment": record.name}, "value": report["srm_evidence"]}
    return {
        "experiment_up_rate": by_arm("up_rate"),
        "experiment_up_rate_lower": by_arm("up_rate_lower"),
        "experiment_up_rate_upper": by_arm("up_rate_upper"),
        "experiment_probability_best": by_arm("probability_best"),
        "experiment_srm_evidence": [evidence],
    }


def _figures(counts: ArmCounts) -> dict[str, Any]:
    from feedback.statistics import up_rate, win_rate

    up, won = up_rate(counts), win_rate(counts)
    shown = max(1, counts.exposures)
    return {
        "exposures": counts.exposures,
        "subjects": counts.subjects,
        "votes": counts.up + counts.down,
        "up": counts.up,
        "down": counts.down,
        "up_rate": up.value,
        "up_rate_lower": up.lower,
        "up_rate_upper": up.upper,
        "compared": counts.compared,
        "wins": counts.wins,
        "win_rate": won.value,
        "win_rate_lower": won.lower,
        "win_rate_upper": won.upper,
        "guardrails": {
            "error_rate": counts.errors / shown,
            "duration_seconds": counts.duration_seconds / shown,
            "completion_tokens": counts.completion_tokens / shown,
        },
    }
