"""Fixtures of gateways in the test's own loop, on a real store, in front of a fake engine.

A module that needs another engine or other settings has its own ``fake`` or ``up``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from tests.unit.serve.fake_engine import FakeEngine, fake_engine
from tests.unit.serve.folders import tiny_base
from tests.unit.serve.running import Running, running


@pytest.fixture
async def fake() -> AsyncIterator[FakeEngine]:
    """A fake engine."""
    async with fake_engine() as engine:
        yield engine


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A tiny base model's folder."""
    return tiny_base(tmp_path / "base")


@pytest.fixture
async def up(tmp_path: Path, store: redis.Redis, valkey_url: str, fake: FakeEngine) -> AsyncIterator[Running]:
    """A gateway."""
    async with running(tmp_path, engines=[fake.url], redis_url=valkey_url) as gateway:
        yield gateway
