"""One gateway for all attacks: what one of them breaks, the next one meets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attacks.serving import CANARY, Served, serving
from tests.servers import valkey_server


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("attacked")
    with valkey_server(folder / "valkey") as (url, _), serving(folder / "data", url) as up:
        yield up
        assert [line for line in up.logged if not line.startswith("INFO")] == [], "a fault of ours, or noise"
        assert not [line for line in up.logged if CANARY in line], "a user's words are logged"
