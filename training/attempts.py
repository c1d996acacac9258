"""When a round that failed is begun anew, and when it is given up.

A round that was killed, or that the store or another worker cut short, is taken up again at once. After any
other failure (a full disk, a bug) the reason is told on the loop page, and the round rests for a while that
grows: a fault that mends itself needs no hand, and one that does not costs little. No round is begun for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FIRST_REST = 5.0
"""Seconds between the first failure and the next start."""
GROWTH = 3.0
"""Each rest over the one before it: eight starts span an hour and a half."""


def lease_of(alias: str) -> str:
    """The lease under which an alias's rounds run."""
    return f"round:{alias}"


def rest(starts: int) -> float:
    """Seconds of rest after a failure of the ``starts``-th start: 5, 15, 45, …"""
    return FIRST_REST * GROWTH ** (starts - 1)


def rests(state: Mapping[str, Any], now: float) -> bool:
    """Whether a round failed and is not due yet; a wish for a round that came after the failure ends the rest.

    ``state`` is the alias's loop state, ``now`` Unix seconds.
    """
    failed = float((state.get("last_round") or {}).get("ended") or 0.0)
    asked = float(state.get("train_requested") or 0.0)
    return now < float(state.get("retry_at") or 0.0) and asked <= failed
