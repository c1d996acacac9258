"""A gateway on a real store, in front of a fake engine; a module that needs another has its own ``up``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from tests.unit.serve.fake_engine import fake_engine
from tests.unit.serve.running import Running, running


@pytest.fixture
async def up(tmp_path: Path, store: redis.Redis, valkey_url: str) -> AsyncIterator[Running]:
    async with (
        fake_engine() as fake,
        running(tmp_path, engines=[fake.url], redis_url=valkey_url) as gateway,
    ):
        yield gateway
