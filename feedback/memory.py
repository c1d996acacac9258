"""In-process twins of the event log, the registry, the shared buckets and the raters' queue: for tests and for
trying a gateway without a store.

They keep the same promises but the one about disks; one contract test suite runs on both.
"""

from __future__ import annotations

from feedback.memory_log import MemoryEventLog
from feedback.memory_quotas import MemoryQuotas
from feedback.memory_rating import MemoryRatingQueue
from feedback.memory_registry import MemoryRegistry

__all__ = ["MemoryEventLog", "MemoryQuotas", "MemoryRatingQueue", "MemoryRegistry"]
