"""The one thread that writes events: many at a time to the log, to the local spool while it is away.

A Response is handed over and forgotten (dropped and counted when even the spool is full). A vote waits:
its future gets what became of it only when it is on a disk. One thread does log, spool and drain, so what
was spooled goes to the log before anything that came later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from feedback.errors import HeedError, SpoolFull, StoreUnavailable
from feedback.events import Event
from feedback.protocols import Appended, EventLog
from feedback.spool import Spool
from serve.errors import Unavailable
from serve.metrics import Metrics

logger = logging.getLogger(__name__)
GROUP = 512  # most events in one round trip
MEASURE_SECONDS = 1.0  # counting what is spooled reads the file
GATHER_SECONDS = (
    0.01  # a response waits so long for others: the thread wakes 100 times a second, not per chat
)
IDLE_SECONDS = 0.5  # how often an idle thread looks whether the spool can be drained


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one event."""

    status: Literal["stored", "spooled"]
    appended: Appended


@dataclass(slots=True)
class _Waiting:
    make: Callable[[], Event]  # building the event is work for this thread, not for the one that streams
    future: Future[Written] | None


class Writer:
    """Owns the thread; ``start`` and ``close`` bracket its life."""

    def __init__(
        self, log: EventLog, spool: Spool, metrics: Metrics, *, places: int, retry_seconds: float
    ) -> None:
        self._log, self._spool, self._metrics = log, spool, metrics
        self._retry_seconds = retry_seconds
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(places)
        self._hurry = threading.Event()  # somebody waits: no gathering
        self._away_until = 0.0
        self._spooled = True  # whether older events may wait in the spool; so it is at the start
        self._measured_at = 0.0
        self._thread = threading.Thread(target=self._run, name="heed-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, seconds: float = 10.0) -> None:
        """Write what waits, then stop."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=seconds)
            self._hurry.set()
        self._thread.join(seconds)

    def forget(self, make: Callable[[], Event]) -> None:
        """Write soon; nobody waits. Dropped and counted when the queue is full."""
        try:
            self._queue.put_nowait(_Waiting(make, None))
        except queue.Full:
            self._metrics.events_dropped.labels("queue_full").inc()

    async def write(self, event: Event) -> Written:
        """Write and wait until it is on a disk. Raises Unavailable when the queue is full, SpoolFull when
        neither log nor spool could take it.
        """
        future: Future[Written] = Future()
        try:
            self._queue.put_nowait(_Waiting(lambda: event, future))
        except queue.Full as error:
            raise Unavailable("too much feedback is waiting", code="queue_full", retry_after=1) from error
        self._hurry.set()
        return await asyncio.wrap_future(future)

    def _run(self) -> None:
        last = False
        while not last:
            group, last = self._next_group()
            try:
                self._turn(group)
            except Exception as error:
                # A fault of ours must neither end the thread nor leave a vote waiting for ever.
                logger.exception("%d events could not be written", len(group))
                self._fail(group, error)

    def _turn(self, group: Sequence[_Waiting]) -> None:
        if group:
            self._write_group(group)
        elif self._spooled or self._spool.pending():
            self._try_drain()
        if time.monotonic() - self._measured_at > MEASURE_SECONDS:
            self._measured_at = time.monotonic()
            self._metrics.spool_events.set(self._spool.pending())

    def _fail(self, group: Sequence[_Waiting], error: Exception) -> None:
        lost = sum(waiting.future is None for waiting in group)
        self._metrics.events_dropped.labels("spool_full").inc(lost)
        for waiting in group:
            if waiting.future is not None and not waiting.future.done():
                waiting.future.set_exception(error)

    def _next_group(self) -> tuple[list[_Waiting], bool]:
        """What waits, at most GROUP; True when the thread is to stop."""
        group: list[_Waiting] = []
        try:
            item = self._queue.get(timeout=IDLE_SECONDS)
            if item is not None and item.future is None:
                self._hurry.wait(GATHER_SECONDS)
            self._hurry.clear()
            while item is not None:
                group.append(item)
                if len(group) == GROUP:
                    return group, False
                item = self._queue.get_nowait()
        except queue.Empty:
            return group, False
        return group, True

    def _write_group(self, group: Sequence[_Waiting]) -> None:
        pairs = [(waiting, event) for waiting in group if (event := self._made(waiting)) is not None]
        waiting = [one for one, _ in pairs]
        try:
            results = self._put([event for _, event in pairs])
        except HeedError as error:
            self._fail(waiting, error)
            return
        for one, written in zip(waiting, results, strict=True):
            if one.future is not None and not one.future.cancelled():
                one.future.set_result(written)

    def _made(self, waiting: _Waiting) -> Event | None:
        """The event; None when a fault of ours is in the making: the others of its group are written all the same."""
        try:
            return waiting.make()
        except Exception as error:
            logger.exception("an event could not be made")
            self._fail([waiting], error)
            return None

    def _put(self, events: list[Event]) -> list[Written]:
        """To the log; to the spool when the log is away, or older events still wait there."""
        if not self._spooled or self._try_drain():
            try:
                if time.monotonic() >= self._away_until:
                    return [Written("stored", one) for one in self._log.append(events)]
            except StoreUnavailable:
                self._away()
        self._spooled = True
        return [Written("spooled", one) for one in self._spool.append(events)]

    def _try_drain(self) -> bool:
        """Move the spool into the log; True when it is empty then."""
        if time.monotonic() < self._away_until:
            return False
        try:
            moved = self._spool.drain(self._log)
        except StoreUnavailable:
            self._away()
            return False
        except SpoolFull:
            logger.exception("the spool cannot be drained")
            return False
        self._spooled = False
        if moved:
            logger.info("%d events went from the spool to the log", moved)
            self._metrics.spool_events.set(0)
        return True

    def _away(self) -> None:
        self._away_until = time.monotonic() + self._retry_seconds
        logger.warning("the event log is away: events go to the local spool")
