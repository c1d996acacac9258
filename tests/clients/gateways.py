"""The gateways that clients are pointed at: one with a key of scope ``chat``, and one that allows little."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from feedback.protocols import AliasRecord, KeyRecord
from feedback.registry import RedisRegistry
from feedback.store import connect
from serve.auth import digest_of
from tests.servers import gateway_server

KEY = "hk-of-the-clients"
HASTY = {"HEED_SUBJECT_RATE": "0.2", "HEED_SUBJECT_BURST": "1"}  # slower than any reply of one token


@dataclass(frozen=True)
class Gateways:
    """Where they are, and the key for both."""

    url: str
    hasty_url: str
    key: str = KEY

    @property
    def environment(self) -> dict[str, str]:
        """What a client program is told."""
        return {"CLIENT_URL": self.url, "CLIENT_HASTY_URL": self.hasty_url, "CLIENT_KEY": self.key}


@contextmanager
def gateways(folder: Path, engine_url: str, redis_url: str) -> Iterator[Gateways]:
    """Both up and ready, over one engine and one Redis, which is emptied first."""
    store = connect(redis_url)
    store.flushall()
    registry = RedisRegistry(store)
    registry.put_alias(AliasRecord(name="heed"))
    registry.put_key(KeyRecord(id="k-clients", digest=digest_of(KEY), scopes=("chat",), created=time.time()))
    with ExitStack() as running:
        urls = []
        for name, more in (("plain", {}), ("hasty", HASTY)):
            settings = {"HEED_SUBJECT_RATE": "0", **more}
            url, _ = running.enter_context(gateway_server(folder / name, redis_url, engine_url, **settings))
            urls.append(url)
        yield Gateways(*urls)
