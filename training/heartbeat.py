"""A round's lease, kept while the round lives: taken before anything slow is imported. Imports no torch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from feedback.errors import StoreUnavailable
from feedback.protocols import Registry
from training.status import TRAINING, worked


@contextmanager
def heartbeat(registry: Registry, lease: str, holder: str, seconds: float) -> Iterator[int | None]:
    """The lease's token, renewed until the end, as is the sign that the worker lives; None when another has it."""
    token = registry.acquire(lease, holder, seconds)
    if token is None:
        yield None
        return
    done = threading.Event()

    def renew() -> None:
        while not done.wait(seconds / 3):
            with suppress(StoreUnavailable):  # the next beat tries again, and `check` has the last word
                registry.acquire(lease, holder, seconds)
                worked(registry, TRAINING)

    beating = threading.Thread(target=renew, daemon=True)
    beating.start()
    try:
        yield token
    finally:
        done.set()
        beating.join()
        with suppress(StoreUnavailable):  # releasing is a courtesy: a lease nobody renews runs out
            registry.release(lease, holder)
