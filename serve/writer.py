"""The one thread that writes events: many at a time to the log, to the local spool while it is away.

A Response is handed over and forgotten (dropped and counted when even the spool is full). A vote waits:
its future gets what became of it only when it is on a disk. ``draining`` brings the spool back to the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from feedback.appended import Appended
from feedback.errors import EventsRefused, HeedError, SpoolFull, StoreUnavailable
from feedback.events import Event, Response
from feedback.protocols import EventLog
from feedback.spool import Spool
from serve.draining import Draining
from serve.errors import Unavailable
from serve.metrics import Metrics

logger = logging.getLogger(__name__)
GROUP = 512  # most events in one round trip
RESPONSES_SHARE = 0.75  # of the spool; the rest is kept for what people say
GATHER_SECONDS = (
    0.01  # a response waits so long for others: the thread wakes 100 times a second, not per chat
)


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one event."""

    status: Literal["stored", "spooled"]
    appended: Appended
    event: Event  # as it is kept: redacted


@dataclass(slots=True)
class _Waiting:
    make: Callable[[], Event]  # building the event is work for this thread, not for the one that streams
    future: asyncio.Future[Written] | None


class Writer:
    """Owns the thread; ``start`` and ``close`` bracket its life."""

    def __init__(
        self,
        log: EventLog,
        spool: Spool,
        metrics: Metrics,
        *,
        places: int,
        retry_seconds: float,
        redact: Callable[[Event], Event] = lambda event: event,
    ) -> None:
        self._log, self._spool, self._metrics = log, spool, metrics
        self._redact = redact  # every event goes through it before it is kept anywhere
        self._draining = Draining(log, spool, metrics, retry_seconds=retry_seconds)
        self._queue: queue.Queue[_Waiting | None] = queue.Queue(places)
        self._hurry = threading.Event()  # somebody waits: no gathering
        self._thread = threading.Thread(target=self._run, name="heed-writer", daemon=True)

    def start(self) -> None:
        self._draining.start()
        self._thread.start()

    @property
    def away(self) -> bool:
        """Whether the log is known not to take events now."""
        return self._draining.away

    def close(self, seconds: float = 10.0) -> None:
        """Write what waits, then stop."""
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=seconds)
            self._hurry.set()
        self._thread.join(seconds)
        self._draining.close(seconds)

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
        future: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        try:
            self._queue.put_nowait(_Waiting(lambda: event, future))
        except queue.Full as error:
            raise Unavailable("too much feedback is waiting", code="queue_full", retry_after=1) from error
        if not self._hurry.is_set():  # the thread looks into the queue after it has taken the hint
            self._hurry.set()
        return await future

    def _run(self) -> None:
        last = False
        while not last:
            group, last = self._next_group()
            try:
                if group:
                    self._write_group(group)
            except Exception as error:
                # A fault of ours must neither end the thread nor leave a vote waiting for ever.
                logger.exception("%d events could not be written", len(group))
                self._fail(group, error)

    def _fail(self, group: Sequence[_Waiting], error: Exception) -> None:
        lost = sum(waiting.future is None for waiting in group)
        self._metrics.events_dropped.labels("spool_full").inc(lost)
        _tell([(waiting.future, error) for waiting in group])

    def _next_group(self) -> tuple[list[_Waiting], bool]:
        """What waits, at most GROUP; True when the thread is to stop."""
        group: list[_Waiting] = []
        try:
            item = self._queue.get()
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
        dropped = [one for one, written in zip(waiting, results, strict=True) if written is None]
        if dropped:
            self._fail(dropped, SpoolFull("the rest of the spool is kept for votes"))
        _tell([(one.future, written) for one, written in zip(waiting, results, strict=True) if written])

    def _made(self, waiting: _Waiting) -> Event | None:
        """The event; None when a fault of ours is in the making: the others of its group are written all the same."""
        try:
            return self._redact(waiting.make())
        except Exception as error:
            logger.exception("an event could not be made")
            self._fail([waiting], error)
            return None

    def _put(self, events: list[Event]) -> Sequence[Written | None]:
        """To the log; to the spool when the log is away, or older events still wait there. None: dropped."""
        with self._draining.order:
            if not self._draining.away:
                try:
                    return _written("stored", self._log.append(events), events)
                except EventsRefused as error:
                    self._draining.lost(error)
                    return self._set_by_refused(events, error.appended)
                except StoreUnavailable as error:
                    self._draining.lost(error)
            return self._set_by(events)

    def _set_by_refused(
        self, events: list[Event], appended: Sequence[Appended | None]
    ) -> Sequence[Written | None]:
        """The others are stored; those that were refused go the way of the spool, which tells what is amiss."""
        refused = [event for event, one in zip(events, appended, strict=True) if one is None]
        kept = iter(self._set_by(refused))
        return [
            next(kept) if one is None else Written("stored", one, event)
            for event, one in zip(events, appended, strict=True)
        ]

    def _set_by(self, events: list[Event]) -> Sequence[Written | None]:
        """Into the spool; where it fills, what people said has more room than what they were answered."""
        served = [isinstance(event, Response) for event in events]
        try:
            share = RESPONSES_SHARE if any(served) else 1.0
            return _written("spooled", self._spool.append(events, share), events)
        except SpoolFull:
            if all(served) or not any(served):
                raise
        said = [event for event, is_served in zip(events, served, strict=True) if not is_served]
        kept = iter(_written("spooled", self._spool.append(said), said))
        return [None if is_served else next(kept) for is_served in served]


def _tell(told: Sequence[tuple[asyncio.Future[Written] | None, Written | Exception]]) -> None:
    """Who waits learns what became of it: each loop is woken once for all of them."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Written], Written | Exception]]] = {}
    for future, outcome in told:
        if future is not None:
            by_loop.setdefault(future.get_loop(), []).append((future, outcome))
    for loop, some in by_loop.items():
        with contextlib.suppress(RuntimeError):  # it has ended, and with it whoever waited
            loop.call_soon_threadsafe(_settle, some)


def _settle(told: Sequence[tuple[asyncio.Future[Written], Written | Exception]]) -> None:
    for future, outcome in told:
        if future.done():  # answered, or its client has left
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _written(
    status: Literal["stored", "spooled"], appended: Sequence[Appended], events: Sequence[Event]
) -> list[Written]:
    return [Written(status, one, event) for one, event in zip(appended, events, strict=True)]
