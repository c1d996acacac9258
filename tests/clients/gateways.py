"""The gateways that clients are pointed at: one with a key of scope ``chat``, and one that allows little."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from feedback.protocols import AliasRecord, KeyRecord
from feedback.registry import RedisRegistry
from feedback.store import connect
from serve.auth import digest_of
from tests.servers import answers, free_port, process, wait_until

KEY = "hk-of-the-clients"
HASTY = {"HEED_SUBJECT_RATE": "1", "HEED_SUBJECT_BURST": "1"}


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
    shared = {"HEED_REDIS_URL": redis_url, "HEED_ENGINE_URLS": engine_url, "HEED_SUBJECT_RATE": "0"}
    with ExitStack() as running:
        urls = []
        for name, more in (("plain", {}), ("hasty", HASTY)):
            port = free_port()
            env = {**shared, **more, "HEED_DATA_DIR": str(folder / name), "HEED_PORT": str(port)}
            log = folder / f"{name}.log"
            running.enter_context(process([sys.executable, "-m", "serve"], log, env))
            urls.append(f"http://127.0.0.1:{port}")
        for url in urls:
            wait_until(lambda url=url: answers(f"{url}/readyz"), 60, "a gateway", folder / "plain.log")
        yield Gateways(*urls)
