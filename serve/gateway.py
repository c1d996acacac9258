"""The parts one gateway process holds, wired together, and their life."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import aiohttp
from starlette.concurrency import run_in_threadpool

from feedback.changes import changes
from feedback.errors import StoreUnavailable
from feedback.ids import Secrets
from feedback.log import RedisEventLog
from feedback.memory import MemoryQuotas, MemoryRatingQueue
from feedback.protocols import EventLog, Quotas, Registry
from feedback.quotas import RedisQuotas
from feedback.rating import RatingQueue
from feedback.rating_queue import RedisRatingQueue
from feedback.redaction import Redaction, redaction_of
from feedback.registry import RedisRegistry
from feedback.spool import Spool
from feedback.store import connect
from serve.adapters import Keeper
from serve.auth import Doorman
from serve.chats import Chats
from serve.discovery import Discovery
from serve.engine_client import EngineClient
from serve.engines import Engine, Pool
from serve.limits import Limits
from serve.metrics import Metrics
from serve.pulse import Pulse
from serve.rotation import follow
from serve.routing import RouteTable
from serve.settings import GatewaySettings
from serve.snapshot import Snapshot
from serve.writer import Writer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stores:
    """Where events and records go; tests hand in the in-memory twins."""

    log: EventLog
    registry: Registry
    quotas: Quotas = field(default_factory=MemoryQuotas)
    rating: RatingQueue = field(default_factory=MemoryRatingQueue)
    changes: Callable[[], AsyncIterator[None]] | None = None  # announces changes of the registry; None: poll

    @classmethod
    def redis(cls, settings: GatewaySettings) -> Stores:
        """All on one Redis. Connects only when first used."""
        client = connect(settings.redis_url)
        log = RedisEventLog(client, settings.indexed_seconds)
        announced = partial(changes, settings.redis_url)
        rating = RedisRatingQueue(client)
        return cls(log, RedisRegistry(client), RedisQuotas(client), rating, announced)


@dataclass(slots=True)
class Gateway:
    """All parts; ``app.state.gateway``."""

    settings: GatewaySettings
    secrets: Secrets
    log: EventLog
    registry: Registry
    snapshot: Snapshot
    doorman: Doorman
    metrics: Metrics
    pool: Pool
    discovery: Discovery
    writer: Writer
    chats: Chats
    keeper: Keeper
    limits: Limits
    rating: RatingQueue
    draw: random.Random = field(default_factory=random.SystemRandom)

    @property
    def table(self) -> RouteTable:
        """The newest picture of the registry; take it once per request."""
        return self.snapshot.table

    def alias_here(self, response_id: str) -> str | None:
        """The alias that served a response, where this process did and remembers it. Enough for a vote: the log puts
        it in elsewhere.
        """
        known = self.chats.recent.get(response_id)
        return None if known is None else known[0]

    async def alias_of(self, response_id: str) -> str | None:
        """The alias that served a response: from memory, else from the store; None when it cannot tell now
        (the join of batching finds it later).
        """
        known = self.alias_here(response_id)
        if known is not None:
            return known
        if self.writer.away:  # votes must not wait for a store that is known not to answer
            return None
        try:
            summary = await run_in_threadpool(self.log.response, response_id)
        except StoreUnavailable:
            return None
        return None if summary is None else summary.alias


@asynccontextmanager
async def running(settings: GatewaySettings, stores: Stores | None = None) -> AsyncIterator[Gateway]:
    """Build all parts, keep their background work going, and stop it in order."""
    stores = stores or Stores.redis(settings)
    metrics = Metrics()
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        gateway = _build(settings, stores, metrics, session)
        gateway.chats.asking.bring = gateway.keeper.bring
        gateway.writer.start()
        tasks = [
            asyncio.create_task(_forever(work))
            for work in (
                lambda: gateway.snapshot.watch(settings.watch_seconds, settings.reread_seconds),
                lambda: gateway.snapshot.listen(stores.changes, settings.store_retry_seconds),
                lambda: gateway.discovery.watch(settings.engine_resolve_seconds),
                lambda: gateway.pool.watch(settings.engine_health_seconds),
                gateway.keeper.run,
                lambda: follow(
                    settings.root / "secret",
                    gateway.secrets,
                    partial(setattr, gateway, "secrets"),
                    settings.reread_seconds,
                ),
                gateway.limits.share,
            )
        ]
        try:
            yield gateway
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for engine in gateway.pool.engines:
                engine.client.close()
            await asyncio.to_thread(gateway.writer.close)


def _build(
    settings: GatewaySettings, stores: Stores, metrics: Metrics, session: aiohttp.ClientSession
) -> Gateway:
    redact = Redaction(redaction_of(settings.redact), metrics.redactions_failed.inc)
    secrets = Secrets.load(settings.root / "secret")
    snapshot = Snapshot(stores.registry, settings.default_alias, settings.run_dir / "keys.json")
    key = settings.engine_key.get_secret_value()

    def engine(name: str, url: str, address: str | None = None) -> Engine:
        client = EngineClient(
            url,
            key,
            session,
            connect_seconds=settings.engine_connect_seconds,
            silence_seconds=settings.engine_silence_seconds,
            address=address,
        )
        return Engine(name, client, pulse=Pulse(settings.engine_stall_seconds))

    engines = [engine(name, url) for name, url in settings.engines.items()]
    pool = Pool(engines, metrics, settings.engine_base_name, settings.engine_chats)
    snapshot.listeners.append(lambda _, table: pool.drain(table.draining))
    writer = Writer(
        stores.log,
        Spool(settings.spool_dir, settings.spool_max_bytes),
        metrics,
        places=settings.writer_queue,
        retry_seconds=settings.store_retry_seconds,
        redact=redact,
    )
    limits = Limits(
        settings, metrics, stores.quotas, engines_up=lambda: sum(engine.up for engine in pool.engines)
    )
    doorman = Doorman(lambda: snapshot.table, secrets, settings.admin_key.get_secret_value())
    return Gateway(
        settings=settings,
        secrets=secrets,
        log=stores.log,
        registry=stores.registry,
        snapshot=snapshot,
        doorman=doorman,
        metrics=metrics,
        pool=pool,
        discovery=Discovery(pool, settings.engines, engine),
        writer=writer,
        chats=Chats(pool, writer, metrics, limits, redact),
        keeper=Keeper(pool, snapshot, stores.registry, settings, metrics),
        limits=limits,
        rating=stores.rating,
    )


async def _forever(work: Callable[[], Awaitable[None]]) -> None:
    """Start the work again when a fault of ours ended it: a gateway without its watchers would go stale."""
    while True:
        try:
            await work()
        except Exception:
            logger.exception("background work failed and starts again")
        await asyncio.sleep(1.0)
