"""The Celery tasks: thin, and derived from state in the store, never only from their message."""

from __future__ import annotations

import functools
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from time import monotonic
from typing import Any

from feedback.archive import Archive
from feedback.errors import Conflict, LeaseLost, StoreUnavailable
from feedback.forget import Other, Stores, archived, carry_out
from feedback.lineage import forget as forget_lineage
from feedback.lineage import learnt
from feedback.log import RedisEventLog
from feedback.protocols import AliasRecord, EventLog, Registry
from feedback.rating import RatingQueue
from feedback.rating_queue import RedisRatingQueue
from feedback.registry import RedisRegistry
from feedback.spool import Spool
from feedback.store import connect
from feedback.turns import leased, renewed
from training.app import app
from training.attempts import lease_of, may_have_read, rests
from training.batch_files import drop_batches, drop_old_batches
from training.heartbeat import heartbeat
from training.lookouts import due
from training.settings import TrainingSettings
from training.silence import Silence
from training.status import TRAINING, broke, worked

logger = logging.getLogger(__name__)
START = secrets.token_hex(4)
CLAIM = 2000
"""Events a claim."""
ARCHIVE_SECONDS = 10.0
"""How long one tick archives at most, unless a single claim takes longer."""
FORGET_SECONDS = 5.0
"""After which one tick begins with no further wish: each reads the whole archive, and other tasks want their turn."""
ABANDONED_SECONDS = 20.0
"""Events that were claimed so long ago and not acknowledged were a dead worker's."""
TICK_LEASE = 30.0
"""Seconds after which the ticks of a worker that was killed in one go on elsewhere."""


def holder() -> str:
    """Who holds leases: this process, and no other of the same number here, on another host, or later."""
    return f"{socket.gethostname()}:{os.getpid()}:{START}"


@functools.cache
def settings() -> TrainingSettings:
    """From the environment, once."""
    return TrainingSettings()


@functools.cache
def parts() -> tuple[Registry, EventLog]:
    """The registry and the log, one connection pool a process."""
    client = connect(settings().redis_url)
    return RedisRegistry(client), RedisEventLog(client, settings().indexed_seconds)


@functools.cache
def rating_queue() -> RatingQueue:
    """What raters are asked."""
    return RedisRatingQueue(connect(settings().redis_url))


def archive_of(registry: Registry) -> Archive:
    """The archive, to be written."""
    return Archive(settings().archive_place, leased(registry, holder()))


def aliases(registry: Registry) -> list[AliasRecord]:
    """All aliases; the default one is made when there is none."""
    found = registry.aliases()
    if found:
        return found
    try:
        return [registry.put_alias(AliasRecord(name=settings().default_alias))]
    except Conflict:
        return registry.aliases()


def each(registry: Registry, work: Callable[[AliasRecord], None]) -> None:
    """``work`` on every alias. The fault of one holds up no other: it is raised when all had their turn."""
    faults: list[Exception] = []
    for alias in aliases(registry):
        try:
            work(alias)
        except StoreUnavailable:
            raise
        except Exception as error:
            logger.exception("alias %s", alias.name)
            faults.append(error)
    if faults:
        raise faults[0]


def tick(work: Callable[[Registry, EventLog], None]) -> Callable[[], None]:
    """Run one tick of the schedule under its lease; a store that is away is the next tick's business, and so is
    any other failure once it is told.
    """

    @functools.wraps(work)
    def run() -> None:
        registry, log = parts()
        name = work.__name__
        try:
            if registry.acquire(f"tick:{name}", holder(), TICK_LEASE) is None:
                return
            try:
                begun = time.time()
                work(registry, log)
                worked(registry, name, seconds=time.time() - begun)
            finally:
                registry.release(f"tick:{name}", holder())
        except StoreUnavailable as error:
            logger.warning("%s: %s", name, error)
        except Exception as error:
            broke(registry, name, error)
            raise

    return run


@app.task(name="heed.archive")
@tick
def archive(registry: Registry, log: EventLog) -> None:
    """Stream → Parquet segment, fsync, manifest; only then acknowledge, then trim.

    What comes meanwhile waits for the next tick: where events never pause, claiming until none is left would keep
    this worker from every other task for ever, and the stream from being trimmed.
    """
    store, begun, claimed = archive_of(registry), monotonic(), CLAIM
    while claimed >= CLAIM:
        entries = log.claim(holder(), CLAIM, idle_seconds=ABANDONED_SECONDS)
        archived(log, store, entries)
        log.ack([entry.position for entry in entries])
        claimed = len(entries) if monotonic() - begun < ARCHIVE_SECONDS else 0
    log.trim()


def wants_round(state: dict[str, Any], total: int, now: float, chosen: TrainingSettings) -> bool:
    """Whether a round is due: asked for, unfinished, enough votes and no more coming this moment, or some votes and a
    longer pause.
    """
    if rests(state, now):
        return False
    if state.get("unfinished") or state.get("train_requested"):
        return True
    new = total - int(state.get("taken_votes") or 0)
    quiet = now - float(state.get("votes_changed") or now)
    if new >= chosen.round_min_votes:
        waited = now - float(state.get("votes_enough") or now)
        return quiet >= chosen.round_pause_seconds or waited >= chosen.round_patience_seconds
    return new >= chosen.round_quiet_votes and quiet >= chosen.round_quiet_seconds


@app.task(name="heed.consider")
@tick
def consider(registry: Registry, log: EventLog) -> None:
    """Count what waits; ask for a round where one is due."""

    def look(alias: AliasRecord) -> None:
        state, own = registry.loop(alias.name), settings().overridden(alias.thresholds)
        total = log.votes_total(alias.name)
        waiting = total - int(state.get("taken_votes") or 0)
        changed = state.get("votes_changed") if state.get("votes_seen") == total else time.time()
        enough = (state.get("votes_enough") or time.time()) if waiting >= own.round_min_votes else None
        coming = {"votes_changed": changed, "votes_enough": enough}
        told = {"waiting_votes": waiting, "round_min_votes": own.round_min_votes}
        registry.set_loop(alias.name, {**told, **coming, "votes_seen": total})
        state |= coming
        if alias.mode == "off" and not state.get("train_requested"):
            return
        if wants_round(state, total, time.time(), own) and not registry.held(lease_of(alias.name)):
            train.apply_async(args=[alias.name], expires=4 * settings().tick_seconds)

    each(registry, look)


@app.task(name="heed.round")
def train(alias_name: str) -> None:
    """One round, if it is still due and nobody else runs one."""
    registry, log = parts()
    chosen = settings()
    try:
        silence = Silence(chosen.round_silence_seconds)
        with heartbeat(registry, lease_of(alias_name), holder(), chosen.lease_seconds, silence) as token:
            if token is None:
                return
            alias = registry.alias(alias_name)
            state = registry.loop(alias_name)
            own = chosen.overridden(alias.thresholds)
            if not wants_round(state, log.votes_total(alias_name), time.time(), own):
                return
            from training.rounds import Round  # torch: slow, so it comes under the lease

            outcome = Round(registry, log, chosen, alias, token, silence.heard, rating_queue()).run()
            logger.info(
                "round of %s: %s %s: %s", alias_name, outcome.verdict, outcome.adapter, outcome.reason
            )
    except (StoreUnavailable, LeaseLost) as error:
        logger.warning("round of %s ends here and is taken up again: %s", alias_name, error)


@app.task(name="heed.attend")
def attend() -> None:
    """Shows that the worker of the queue ``training`` takes tasks; in a round its heartbeat shows it."""
    registry, _ = parts()
    try:
        worked(registry, TRAINING)
    except StoreUnavailable as error:
        logger.warning("attend: %s", error)


@app.task(name="heed.canaries")
@tick
def canaries(registry: Registry, _log: EventLog) -> None:
    """A look at what is live, where it is time; never beside a round, and no round begins beside it."""
    chosen = settings()
    every = aliases(registry)
    for alias in every:
        told = registry.loop(alias.name).get("canaries") or {}
        live = registry.adapter(alias.live) if alias.live else None
        if not due(told, live, time.time(), chosen.canary_hours):
            continue
        if any(registry.held(lease_of(one.name)) for one in every):
            return
        silence = Silence(chosen.round_silence_seconds)
        with heartbeat(registry, lease_of(alias.name), holder(), chosen.lease_seconds, silence) as token:
            if token is not None:
                from training.live_canaries import Watch  # torch: slow, so it comes under the lease
                from training.memory import give_back
                from training.rounds import trunk_for

                trunk = trunk_for(chosen)
                logger.info("canaries of %s: %s", alias.name, Watch(registry, chosen, alias).look(trunk))
                give_back()


@app.task(name="heed.forget")
@tick
def forget(registry: Registry, log: EventLog) -> None:
    """Carry out the wishes to be forgotten; see ``feedback.forget``."""
    chosen = settings()
    lineage = chosen.lineage_dir

    def batches(subject: str) -> None:
        drop_batches(chosen, subject, manifests=False)  # of many batches more is not left

    def unasked(subject: str) -> None:
        rating_queue().forget([alias.name for alias in aliases(registry)], subject)

    def unlearnt(subject: str) -> None:
        drop_batches(chosen, subject)  # the last one may have come since: by the marks it is known
        forget_lineage(lineage, subject)

    def for_good(drop: Callable[[str], None], *, now: bool = True) -> Other:
        """A round under way may write again what is dropped: then once more when it is over."""

        def dropped(subject: str, clean: float) -> bool:
            last = not may_have_read(registry, clean)  # before it is dropped: it may end in between
            if last or now:
                drop(subject)
            return last

        return dropped

    others = {
        "batches": for_good(batches),
        "annotations": for_good(unasked),
        "quarantine": for_good(registry.drop_held),
        "lineage": for_good(unlearnt, now=False),
    }

    stores = Stores(
        registry,
        log,
        archive_of(registry),
        Spool(chosen.spool_dir, chosen.spool_max_bytes),
        others,
        learnt=lambda subject: learnt(lineage, registry, subject),
    )
    with renewed(registry, "tick:forget", holder(), TICK_LEASE):  # a large archive takes longer
        carry_out(stores, FORGET_SECONDS)


@app.task(name="heed.retain")
@tick
def retain(registry: Registry, log: EventLog) -> None:
    """Delete what is older than HEED_RETENTION_DAYS and HEED_TEXT_RETENTION_DAYS say."""
    chosen = settings()
    before, texts_before = chosen.kept_from(time.time())
    if texts_before > 0:
        with renewed(registry, "tick:retain", holder(), TICK_LEASE):
            archive_of(registry).retain(before, texts_before)
            log.discard(before, texts_before)
            drop_old_batches(registry, chosen, texts_before)


@app.task(name="heed.compact")
@tick
def compact(registry: Registry, _log: EventLog) -> None:
    """Merge the small segments that frequent archiving leaves."""
    archive_of(registry).compact()


@app.task(name="heed.review")
@tick
def review(registry: Registry, log: EventLog) -> None:
    """One look at every alias's candidate or canary."""
    from training.review import Review

    def look(alias: AliasRecord) -> None:
        logger.debug("review of %s: %s", alias.name, Review(registry, log, settings(), alias).look())

    each(registry, look)
