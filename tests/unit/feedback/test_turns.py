"""A lease is kept while long work goes on, and no longer."""

from __future__ import annotations

import threading

from feedback.memory import MemoryRegistry
from feedback.turns import renewed


def test_a_lease_is_renewed_until_the_work_is_done() -> None:
    renewals: list[str] = []
    again = threading.Event()

    class Counting(MemoryRegistry):
        def acquire(self, lease: str, holder: str, seconds: float) -> int | None:
            renewals.append(holder)
            if len(renewals) > 3:
                again.set()
            return super().acquire(lease, holder, seconds)

    registry = Counting()
    token = registry.acquire("tick:forget", "w", 60.0)
    assert token is not None
    with renewed(registry, "tick:forget", "w", 0.003):
        assert again.wait(30)
    count = len(renewals)
    assert set(renewals) == {"w"}
    assert not [thread for thread in threading.enumerate() if "renew" in thread.name]
    assert len(renewals) == count
