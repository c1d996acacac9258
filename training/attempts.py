"""When a round that failed is begun anew, and when it is given up.

A round that was killed, or that the store or another worker cut short, is taken up again at once. After any
other failure (a full disk, a bug) the reason is told on the loop page, and the round rests for a while that
grows: a fault that mends itself needs no hand, and one that does not costs little. No round is begun for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from feedback.protocols import Registry

FIRST_REST = 5.0
"""Seconds between the first failure and the next start."""
SKEW = 60.0
"""Seconds by which the clocks of workers may differ."""
GROWTH = 3.0
"""Each rest over the one before it: eight starts span an hour and a half."""


def lease_of(alias: str) -> str:
    """The lease under which an alias's rounds run."""
    return f"round:{alias}"


def may_have_read(registry: Registry, clean: float) -> bool:
    """Whether work on an alias is under way that may have read what the archive held before ``clean`` (Unix seconds),
    and write it yet. What began later has nothing of it: else rounds one after the other would never let a wish end.
    """
    begun = {one.name: registry.loop(one.name).get("round_started") or 0.0 for one in registry.aliases()}
    return any(registry.held(lease_of(name)) and when <= clean + SKEW for name, when in begun.items())


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
