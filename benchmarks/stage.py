"""Real parts to measure on: a Valkey that fsyncs, vLLM engines, gateways, and adapters told apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from feedback.protocols import AdapterRecord, AliasRecord, Registry
from feedback.registry import RedisRegistry
from feedback.store import connect
from tests.adapters import random_adapter
from tests.servers import STARTER, MortalEngine, gateway_server, valkey_server, wait_until
from training.publish import Origin, publish
from training.trunk import Trunk

ONE_THREAD = {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}  # as `heed up` does on two cores
SCALE = 0.12  # of the random weights: replies are long, and no two adapters begin or end one alike


@dataclass(frozen=True)
class Stage:
    """Where the parts are."""

    urls: tuple[str, ...]  # of the gateways
    redis_url: str
    engines: tuple[MortalEngine, ...]
    data_dir: Path
    adapters: tuple[str, ...]  # ids, loaded and proved on every engine

    @property
    def url(self) -> str:
        """The first gateway's."""
        return self.urls[0]

    @property
    def engine_url(self) -> str:
        """The first engine's."""
        return self.engines[0].url


def published(registry: Registry, data_dir: Path, count: int) -> tuple[AdapterRecord, ...]:
    """Publish ``count`` random adapters as candidates of the default alias."""
    trunk = Trunk.load(str(STARTER))
    records = []
    for seed in range(count):
        folder = random_adapter(data_dir / "made" / str(seed), seed, scale=SCALE, rank=16)
        records.append(publish(registry, trunk, folder, Origin(alias="heed"), data_dir / "adapters"))
    return tuple(records)


@contextmanager
def engines_up(folder: Path, count: int, env: Mapping[str, str] | None) -> Iterator[tuple[MortalEngine, ...]]:
    """Engines that are healthy, started side by side."""
    with ExitStack() as life:
        engines = tuple(MortalEngine(folder / f"engine-{number}", env=env) for number in range(count))
        for engine in engines:
            life.callback(engine.close)
        for engine in engines:
            engine.wait()
        yield engines


@contextmanager
def stage(
    folder: Path,
    adapters: int = 0,
    settings: Mapping[str, str] | None = None,
    engine: Mapping[str, str] | None = None,
    *,
    engines: int = 1,
    gateways: int = 1,
) -> Iterator[Stage]:
    """Everything up and ready, down again at the end. ``settings`` and ``engine`` add to the environments of the
    gateways and of the engines, which have one thread each.
    """
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    with ExitStack() as life:
        redis_url, _ = life.enter_context(valkey_server(folder / "valkey"))
        env = {**ONE_THREAD, **(engine or {})}
        running = life.enter_context(engines_up(folder, engines, env))
        registry = RedisRegistry(connect(redis_url))
        registry.put_alias(AliasRecord(name="heed"))
        ids = tuple(record.id for record in published(registry, data, adapters))
        shared = {"HEED_DATA_DIR": str(data), **(settings or {})}
        urls = ",".join(one.url for one in running)
        found = tuple(
            life.enter_context(gateway_server(folder / f"gateway-{number}", redis_url, urls, **shared))[0]
            for number in range(gateways)
        )

        def all_proved() -> bool:
            ready = registry.engines()
            return len(ready) == engines and all(set(ids) <= set(on) for on in ready.values())

        wait_until(all_proved, 90, "the adapters", folder / "gateway-0" / "gateway.log")
        yield Stage(found, redis_url, running, data, ids)
