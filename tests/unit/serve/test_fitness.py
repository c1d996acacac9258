"""What was verified once is looked at again as soon as a file of it was touched."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from feedback.manifest import fingerprint
from serve.fitness import Fitness
from serve.plain_files import MissingFolder, UnfitAdapter
from serve.tensor_file import base_shapes
from serve.verification import Base
from tests.unit.serve.folders import PLAIN, adapter_folder, tiny_base

NAME = f"a-000001-{PLAIN}"


@pytest.fixture
def fitness(tmp_path: Path) -> Fitness:
    base = tiny_base(tmp_path / "base")
    adapter_folder(tmp_path / "adapters", NAME, base)
    made = Fitness(tmp_path / "adapters", 16)
    made.base = Base(fingerprint(str(base)), base_shapes(base))
    return made


def test_untouched_files_are_verified_once(fitness: Fitness) -> None:
    assert not fitness.unchanged(NAME)
    assert fitness.manifest(NAME) is fitness.manifest(NAME)
    assert fitness.unchanged(NAME)
    assert fitness.changed([NAME, f"a-000002-{PLAIN}"]) == {}


def test_a_touched_file_of_the_same_bytes_is_still_fit(fitness: Fitness, tmp_path: Path) -> None:
    fitness.manifest(NAME)
    weights = tmp_path / "adapters" / NAME / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes())
    assert fitness.changed([NAME]) == {}
    assert fitness.unchanged(NAME)


def test_other_bytes_are_noticed_even_when_size_and_times_are_put_back(
    fitness: Fitness, tmp_path: Path
) -> None:
    fitness.manifest(NAME)
    weights = tmp_path / "adapters" / NAME / "adapter_model.safetensors"
    state = weights.stat()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert "sha256" in fitness.changed([NAME])[NAME]
    with pytest.raises(UnfitAdapter, match="sha256"):
        fitness.manifest(NAME)


def test_a_deleted_folder_is_noticed_and_may_come_back(fitness: Fitness, tmp_path: Path) -> None:
    fitness.manifest(NAME)
    shutil.move(tmp_path / "adapters" / NAME, tmp_path / "away")
    assert "cannot be read" in fitness.changed([NAME])[NAME]
    with pytest.raises(MissingFolder):
        fitness.manifest(NAME)
    shutil.move(tmp_path / "away", tmp_path / "adapters" / NAME)
    assert fitness.manifest(NAME).id == NAME
