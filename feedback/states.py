"""An adapter's states and the edges between them."""

from __future__ import annotations

import time
from dataclasses import replace

from feedback.errors import InvalidTransition
from feedback.protocols import AdapterRecord, AdapterState

EDGES: dict[AdapterState, frozenset[AdapterState]] = {
    "candidate": frozenset({"canary", "live", "rejected", "retired"}),
    "canary": frozenset({"live", "rejected", "retired", "candidate"}),
    "live": frozenset({"retired", "rejected"}),
    "retired": frozenset({"live", "canary", "rejected"}),
    "rejected": frozenset(),
}


def moved(record: AdapterRecord, to: AdapterState, reason: str) -> AdapterRecord:
    """The record in its new state, the change written into its history. Raises InvalidTransition."""
    if to not in EDGES[record.state]:
        raise InvalidTransition(record.id, record.state, to)
    step = {"time": time.time(), "from": record.state, "to": to, "reason": reason}
    return replace(record, state=to, reason=reason, history=(*record.history, step), version=record.version + 1)
