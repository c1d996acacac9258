"""One tiny trunk for the whole session; tests that train name their own adapters or start anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.training.tiny import save_tiny
from training.trunk import Trunk

Loader = Callable[..., Trunk]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Loader:
    """Trunks in float32 over tiny models: of a family, with settings of its own."""

    def load(family: str = "qwen3", threads: int = 2, **settings: Any) -> Trunk:
        folder = save_tiny(tmp_path_factory.mktemp(family), family, **settings)
        return Trunk.load(str(folder), dtype=torch.float32, threads=threads, device="cpu")

    return load


@pytest.fixture(scope="session")
def trunk(tiny: Loader) -> Trunk:
    return tiny()


@pytest.fixture
def adapter(trunk: Trunk, tmp_path: Path) -> Path:
    """A folder with an adapter that is far from zero."""
    return made_adapter(trunk, tmp_path / "made")


def made_adapter(trunk: Trunk, folder: Path, seed: int = 3) -> Path:
    """Write a random adapter that is far from zero."""
    torch.manual_seed(seed)
    for weight in trunk.add("made"):
        torch.nn.init.normal_(weight, std=0.1)
    trunk.write("made", folder)
    return folder
