"""Real parts to measure on: a Valkey that fsyncs, one vLLM engine, one gateway, and adapters told apart."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from feedback.protocols import AliasRecord
from feedback.registry import RedisRegistry
from feedback.store import connect
from tests.adapters import random_adapter
from tests.servers import STARTER, answers, engine_server, free_port, process, valkey_server, wait_until
from training.publish import Origin, publish
from training.trunk import Trunk

SCALE = 0.12  # of the random weights: replies are long, and no two adapters begin or end one alike


@dataclass(frozen=True)
class Stage:
    """Where the parts are."""

    url: str  # the gateway
    redis_url: str
    engine_url: str
    data_dir: Path
    adapters: tuple[str, ...]  # ids, loaded and proved on the engine


def published(registry: RedisRegistry, data_dir: Path, count: int) -> tuple[str, ...]:
    """Publish ``count`` random adapters as candidates of the default alias."""
    trunk = Trunk.load(str(STARTER))
    ids = []
    for seed in range(count):
        folder = random_adapter(data_dir / "made" / str(seed), seed, scale=SCALE, rank=16)
        ids.append(publish(registry, trunk, folder, Origin(alias="heed"), data_dir / "adapters").id)
    return tuple(ids)


@contextmanager
def stage(
    folder: Path,
    adapters: int = 0,
    settings: Mapping[str, str] | None = None,
    engine: Mapping[str, str] | None = None,
) -> Iterator[Stage]:
    """Everything up and ready, down again at the end. ``settings`` and ``engine`` add to the environments of the
    gateway and of the engine.
    """
    data, port = folder / "data", free_port()
    data.mkdir(parents=True, exist_ok=True)
    with valkey_server(folder / "valkey") as (redis_url, _), engine_server(folder, env=engine) as engine_url:
        registry = RedisRegistry(connect(redis_url))
        registry.put_alias(AliasRecord(name="heed"))
        ids = published(registry, data, adapters)
        url = f"http://127.0.0.1:{port}"
        env = {
            "HEED_DATA_DIR": str(data),
            "HEED_REDIS_URL": redis_url,
            "HEED_ENGINE_URLS": engine_url,
            "HEED_PORT": str(port),
            **(settings or {}),
        }
        with process([sys.executable, "-m", "serve"], folder / "gateway.log", env):
            wait_until(lambda: answers(f"{url}/readyz"), 60, "the gateway", folder / "gateway.log")

            def all_proved() -> bool:
                ready = registry.engines()
                return bool(ready) and all(set(ids) <= set(on) for on in ready.values())

            wait_until(all_proved, 60, "the adapters", folder / "gateway.log")
            yield Stage(url, redis_url, engine_url, data, ids)
