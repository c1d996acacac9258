"""The real engine behind a real gateway, and the environment of the clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import environment
from tests.clients.gateways import Gateways, gateways
from tests.gateways import fake, up

__all__ = ["both", "clients", "fake", "up"]


@pytest.fixture(scope="package")
def both(tmp_path_factory: pytest.TempPathFactory, engine_url: str, valkey_url: str) -> Iterator[Gateways]:
    """Gateways over the session's engine and Valkey."""
    with gateways(tmp_path_factory.mktemp("clients"), engine_url, valkey_url) as running:
        yield running


@pytest.fixture(scope="package")
def clients() -> Path:
    """The folder of the clients' environment."""
    return environment.made()
