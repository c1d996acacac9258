"""``heed batches``: a batch is made again from the archive, or it is said why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.rebuilding import batches, rebuild_batch
from deploy.settings import LaunchSettings
from feedback.archive import Archive
from feedback.errors import InvalidRecord, UnknownRecord
from feedback.protocols import Entry
from tests.contract.making import response, vote
from training.batch_files import Batch
from training.batching import build
from training.errors import BatchDiffers
from training.settings import TrainingSettings


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    events = [response("r1"), vote("r1", "up", 2.0), response("r2", "s2"), vote("r2", "down", 3.0, "s2")]
    archive = Archive(tmp_path / "archive")
    archive.write([Entry(f"{n + 1}-0", event) for n, event in enumerate(events)])
    return build(archive, "heed", TrainingSettings(data_dir=tmp_path), None, votes_total=2)


def test_a_batch_is_made_again_with_the_same_bytes(batch: Batch, tmp_path: Path) -> None:
    settings, out = LaunchSettings(data_dir=tmp_path), tmp_path / "again.parquet"
    kept = batch.folder / "examples.parquet"
    told = rebuild_batch(settings, batch.id, out)
    assert told == f"{batch.id}: the {kept.stat().st_size} bytes its manifest names"
    assert out.read_bytes() == kept.read_bytes()
    assert [one["id"] for one in batches(settings)] == [batch.id]


def test_a_file_that_was_damaged_is_told_from_one_that_was_made_otherwise(
    batch: Batch, tmp_path: Path
) -> None:
    settings = LaunchSettings(data_dir=tmp_path)
    (batch.folder / "examples.parquet").write_bytes(b"damaged")
    assert rebuild_batch(settings, batch.id).endswith("; examples.parquet in its folder is not")
    Archive(settings.archive_dir).forget("s2")
    with pytest.raises(BatchDiffers, match=batch.id):
        rebuild_batch(settings, batch.id)


def test_a_batch_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownRecord, match="b-000001"):
        rebuild_batch(LaunchSettings(data_dir=tmp_path), "b-000001-0123456789ab")


@pytest.mark.parametrize("left", [b"", b'{"id": "b-', b"[]", b'{"id": "b-1"}'])
def test_a_damaged_manifest_is_named_beside_the_whole_ones(batch: Batch, tmp_path: Path, left: bytes) -> None:
    settings = LaunchSettings(data_dir=tmp_path)
    damaged = batch.folder.with_name("b-000009-damaged")
    damaged.mkdir()
    (damaged / "manifest.json").write_bytes(left)
    first, second = batches(settings)
    assert first["id"] == batch.id
    assert (second["id"], second["alias"]) == (damaged.name, "heed")
    assert second["damaged"] == "is damaged: remove its folder, a batch is made anew from the archive"
    with pytest.raises(InvalidRecord, match=damaged.name):
        rebuild_batch(settings, damaged.name)
