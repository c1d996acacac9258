"""Turns of writers that no lock of a file system can keep: a lease of the registry, renewed while the turn lasts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from feedback.errors import Conflict, StoreUnavailable
from feedback.protocols import Registry
from feedback.shelf import Check, Turn

LEASE = "archive"
SECONDS = 30.0
"""How long the turn of a writer that died goes on."""
WAIT = 120.0
"""How long another one waits for its turn, seconds."""
PAUSE = 0.05


def leased(registry: Registry, holder: str, seconds: float = SECONDS, wait: float = WAIT) -> Turn:
    """Turns by the lease ``archive``. Within one the check raises LeaseLost when the lease ran out all the same (the
    process was stopped for longer). Raises Conflict when the turn does not come, StoreUnavailable.
    """
    writing = threading.Lock()  # a lease is the process's own: its threads take turns by this

    @contextmanager
    def turn() -> Iterator[Check]:
        with writing:
            token = _taken(registry, holder, seconds, wait)
            try:
                with renewed(registry, LEASE, holder, seconds):
                    yield lambda: registry.check(LEASE, token)
            finally:
                with suppress(StoreUnavailable):  # it runs out by itself
                    registry.release(LEASE, holder)

    return turn


@contextmanager
def renewed(registry: Registry, lease: str, holder: str, seconds: float) -> Iterator[None]:
    """A lease that the holder has, kept for longer than its ``seconds``: for work that may take so long."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(seconds / 3):
            with suppress(StoreUnavailable):  # the next beat tries again, and the check has the last word
                registry.acquire(lease, holder, seconds)

    beating = threading.Thread(target=renew, daemon=True)
    beating.start()
    try:
        yield
    finally:
        done.set()
        beating.join()


def _taken(registry: Registry, holder: str, seconds: float, wait: float) -> int:
    deadline = time.monotonic() + wait
    while (token := registry.acquire(LEASE, holder, seconds)) is None:
        if time.monotonic() > deadline:
            raise Conflict("the archive", 0, 0, f"is being written by another for over {wait:.0f} s")
        time.sleep(PAUSE)
    return token
