"""The command line's way to what has no HTTP route: the store and data directory of the running launch."""

from __future__ import annotations

from dataclasses import dataclass

import redis

from deploy.errors import NotRunning
from deploy.probes import store_ok
from deploy.settings import LaunchSettings
from deploy.state import running_state
from feedback.log import RedisEventLog
from feedback.registry import RedisRegistry
from feedback.store import connect


@dataclass(frozen=True)
class Store:
    """An open store and the settings it was found by."""

    settings: LaunchSettings
    client: redis.Redis
    registry: RedisRegistry
    log: RedisEventLog


def open_store() -> Store:
    """The store of the running launch, else the one HEED_REDIS_URL names. Raises NotRunning."""
    settings = LaunchSettings()
    try:
        url = running_state(settings.run_dir).redis_url
    except NotRunning:
        if "redis_url" not in settings.model_fields_set or not store_ok(settings.redis_url):
            raise
        url = settings.redis_url
    client = connect(url, timeout_seconds=10.0)
    return Store(settings, client, RedisRegistry(client), RedisEventLog(client, settings.indexed_seconds))
