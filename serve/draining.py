"""Whether events go to the log or to the local spool, and the thread that brings the spool back to the log.

The thread alone asks a store that is away: what comes meanwhile never waits for its answer. Everything that was
spooled is in the log before anything goes there directly again, but for single events that it refuses: those are set
aside, and offered again at the start and every ten minutes.
"""

from __future__ import annotations

import logging
import threading
import time

from feedback.errors import SpoolFull, StoreUnavailable
from feedback.protocols import EventLog
from feedback.spool import Spool
from serve.metrics import Metrics

logger = logging.getLogger(__name__)
LOOK_SECONDS = (
    1.0  # how often what other processes may have left in the spool is looked for and counted, at least
)
OFFER_SECONDS = 600.0  # between two offers of what the store refused


class Draining:
    """Owns the thread; ``start`` and ``close`` bracket its life."""

    def __init__(self, log: EventLog, spool: Spool, metrics: Metrics, *, retry_seconds: float) -> None:
        self._log, self._spool, self._metrics = log, spool, metrics
        self._retry_seconds = retry_seconds
        self.order = threading.Lock()  # held while events are written: then ``away`` does not change
        self.away = not spool.empty  # older events wait in the spool, or the log did not answer
        self._offered = -OFFER_SECONDS  # monotonic; the first turn offers
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heed-drain", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, seconds: float = 10.0) -> None:
        """Stop; what is spooled stays so."""
        self._ended.set()
        self._thread.join(seconds)

    def lost(self, why: StoreUnavailable) -> None:
        """The log did not take events: from now on they go to the spool. Called with ``order`` held."""
        logger.warning("events go to the local spool: %s", why)
        self.away = True

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._turn()
            except Exception:  # a fault of ours must not leave votes in the spool for ever
                logger.exception("the spool could not be drained")
            self._ended.wait(min(self._retry_seconds, LOOK_SECONDS))

    def _turn(self) -> None:
        self._count()
        if self.away or not self._spool.empty:
            self._drain()
        if not self.away and time.monotonic() - self._offered >= OFFER_SECONDS:
            self._offer()

    def _count(self) -> None:
        self._metrics.spool_events.set(self._spool.pending())
        self._metrics.refused_events.set(self._spool.refused())

    def _offer(self) -> None:
        """What the store once refused: whatever was amiss may have been mended."""
        try:
            taken = self._spool.offer_refused(self._log)
        except (StoreUnavailable, SpoolFull) as error:
            logger.warning("what the store refused could not be offered again: %s", error)
            return
        self._offered = time.monotonic()
        if taken:
            logger.info("the log took %d events that it had refused before", taken)
            self._count()

    def _drain(self) -> None:
        try:
            self._log.ping()
            moved = self._spool.drain(self._log, wait=False)
            with self.order:  # nothing comes in now
                rest = self._spool.drain(self._log, wait=False)
                if moved is None or rest is None:  # another process is at it
                    return
                self.away = False
        except StoreUnavailable:
            return
        except SpoolFull:
            logger.exception("the spool cannot be drained: events go to the log past it")
            self.away = False
            return
        if moved + rest:
            logger.info("%d events went from the spool to the log", moved + rest)
            self._count()
