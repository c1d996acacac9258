"""Fixtures on real parts: a Valkey server that fsyncs, and a vLLM engine with the starter model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests import exploring
from tests.servers import MortalEngine, valkey_server

exploring.register()


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Valkey for the session, appendfsync always."""
    with valkey_server(tmp_path_factory.mktemp("valkey")) as (url, _):
        yield url


@pytest.fixture
def store(valkey_url: str) -> Iterator[redis.Redis]:
    """The session's Valkey, emptied."""
    with redis.Redis.from_url(valkey_url) as client:
        client.flushall()
        yield client


@pytest.fixture(scope="session", autouse=True)
def started_engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MortalEngine | None]:
    """The session's engine, started before the first test, so that nobody waits for it for long. None when no test
    of the session asks for it.
    """
    if not any("engine_url" in getattr(item, "fixturenames", ()) for item in request.session.items):
        yield None
        return
    engine = MortalEngine(tmp_path_factory.mktemp("engine"))
    yield engine
    engine.close()


@pytest.fixture(scope="session")
def engine_url(started_engine: MortalEngine) -> str:
    """One real vLLM for the session, serving the starter model as ``base`` in float32."""
    started_engine.wait()
    return started_engine.url


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data directory that HEED_DATA_DIR names."""
    monkeypatch.setenv("HEED_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"
