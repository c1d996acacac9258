"""What the log says of an event that it was given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Appended:
    """What became of one appended event."""

    event_id: str
    # repeat: said before, nothing written. changed: the subject had said something else; the newest by time
    # stands, which is this one unless it comes late, out of a spool.
    status: Literal["new", "repeat", "changed"]
    feedback_id: str | None = None
