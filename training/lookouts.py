"""When what is live is looked at again. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feedback.protocols import AdapterRecord

AGAIN = 600.0
"""Seconds after a canary broke: to see whether what was done about it mended it."""


def went_live(record: AdapterRecord) -> float:
    """Unix seconds, of the last time."""
    steps = [step["time"] for step in record.history if step.get("to") == "live"]
    return float(max(steps, default=record.created))


def due(told: Mapping[str, Any], live: AdapterRecord | None, now: float, hours: float) -> bool:
    """Whether it is time: so many hours after the last look at an adapter, or after one followed the base. ``told``
    is of the last look, empty when there was none. 0 hours: never.
    """
    if hours <= 0:
        return False
    if told.get("adapter") is None:
        return live is not None and now - went_live(live) >= hours * 3600
    pause = AGAIN if told.get("broken") else hours * 3600
    return now - float(told["time"]) >= pause
