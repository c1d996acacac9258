"""Batches on the command line: which there are, and whether they are made again from the archive as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploy.settings import LaunchSettings
from feedback.archive import Archive
from feedback.errors import InvalidRecord, UnknownRecord
from training.batch_files import EXAMPLES, MANIFEST, manifest_of
from training.batching import rebuild


def batches(settings: LaunchSettings) -> list[dict[str, Any]]:
    """The manifests of all batches, oldest vote first; of a damaged one its id, its alias and what to do."""
    found = [_listed(path.parent) for path in settings.batches_dir.glob(f"*/*/{MANIFEST}")]
    return sorted(found, key=lambda told: (told.get("newest_vote", float("inf")), told["id"]))


def _listed(folder: Path) -> dict[str, Any]:
    try:
        return manifest_of(folder)
    except InvalidRecord as error:
        return {"id": folder.name, "alias": folder.parent.name, "damaged": error.why}


def rebuild_batch(settings: LaunchSettings, batch: str, out: Path | None = None) -> str:
    """Make a batch again from the archive; what was found, in words. ``out``: where its Parquet is written.

    Raises UnknownRecord when there is no such batch, InvalidRecord when its manifest is damaged, BatchDiffers when the
    bytes are others.
    """
    folder = next((path.parent for path in settings.batches_dir.glob(f"*/{batch}/{MANIFEST}")), None)
    if folder is None:
        raise UnknownRecord("batch", batch)
    data = rebuild(folder, Archive(settings.archive_place))
    kept = folder / EXAMPLES
    beside = "" if not kept.exists() or kept.read_bytes() == data else f"; {EXAMPLES} in its folder is not"
    if out is not None:
        out.write_bytes(data)
    return f"{batch}: the {len(data)} bytes its manifest names{beside}"
