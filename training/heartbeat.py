"""A round's lease, kept while the round lives: taken before anything slow is imported. Imports no torch."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from feedback.errors import StoreUnavailable
from feedback.protocols import Registry
from training.silence import Silence
from training.status import ROUND, TRAINING, broke, worked

logger = logging.getLogger(__name__)


@contextmanager
def heartbeat(
    registry: Registry, lease: str, holder: str, seconds: float, silence: Silence | None = None
) -> Iterator[int | None]:
    """The lease's token, renewed until the end, as is the sign that the worker lives; None when another has it.

    Work that is silent for longer than ``silence`` allows loses both, with its process.
    """
    token = registry.acquire(lease, holder, seconds)
    if token is None:
        yield None
        return
    done = threading.Event()

    def told(why: str) -> None:
        logger.critical("%s of %s", why, lease)
        with suppress(StoreUnavailable):
            broke(registry, ROUND, RuntimeError(why))

    def renew() -> None:
        while not done.wait(seconds / 3):
            if silence is not None:
                silence.check(told)
            with suppress(StoreUnavailable):  # the next beat tries again, and `check` has the last word
                registry.acquire(lease, holder, seconds)
                worked(registry, TRAINING)

    if silence is not None:
        silence.heard()
    beating = threading.Thread(target=renew, daemon=True)
    beating.start()
    try:
        yield token
    finally:
        done.set()
        beating.join()
        with suppress(StoreUnavailable):  # releasing is a courtesy: a lease nobody renews runs out
            registry.release(lease, holder)
