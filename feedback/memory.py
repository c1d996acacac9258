"""In-process twins of the event log and the registry: for tests and for trying a gateway without a store.

They keep the same promises but the one about disks; one contract test suite runs on both.
"""

from __future__ import annotations

from feedback.memory_log import MemoryEventLog
from feedback.memory_registry import MemoryRegistry

__all__ = ["MemoryEventLog", "MemoryRegistry"]
