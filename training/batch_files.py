"""Batches on disk: Parquet, then the manifest; what has none is not there."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from feedback.durable import write_durably
from feedback.errors import InvalidRecord
from feedback.lineage import may_hold
from feedback.protocols import Registry
from training.attempts import lease_of
from training.examples import Demonstration, Examples, Pair, Thumb
from training.settings import TrainingSettings

logger = logging.getLogger(__name__)
MANIFEST = "manifest.json"
NEEDED = {"id", "alias", "votes", "votes_total", "newest_vote", "prompts", "recipe", "segments", "sha256"}
"""Keys that every manifest has."""
EXAMPLES = "examples.parquet"
KEPT = 8
"""Batches of an alias whose examples stay on disk, the newest: each holds nearly all that the one before does."""
SCHEMA = pa.schema(
    [
        ("kind", pa.string()),  # "pair", "thumb", "demonstration", "prompt"
        ("messages", pa.string()),  # JSON: the prompt
        ("a", pa.string()),  # the reply; of a pair the better one where one is better
        ("b", pa.string()),  # the other reply of a pair
        ("said", pa.string()),  # "win", "tie", "both_bad", "up", "down"
        ("subject", pa.string()),
        ("split", pa.string()),  # "train", "holdout"
        ("event_id", pa.string()),
        (
            "criteria",
            pa.string(),
        ),  # of pairs and thumbs: which they are about, as a JSON list; empty: overall
        ("weight", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Batch:
    """One immutable snapshot of an alias's votes."""

    id: str
    folder: Path
    alias: str
    votes: int  # standing votes and comparisons in it
    votes_total: int  # ever logged when it was taken: where the count of new votes begins
    newest_vote: float  # Unix seconds
    prompts: int


def packed(table: Any) -> bytes:
    """A table of SCHEMA as the bytes of a batch: the same of the same table."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def name_of(data: bytes, votes: int) -> str:
    """The id of the batch of these bytes."""
    return f"b-{votes:06d}-{hashlib.sha256(data).hexdigest()[:12]}"


def write(data: bytes, told: Mapping[str, Any], root: Path) -> Batch:
    """Durable and complete when it returns. ``told`` is the rest of the manifest: alias, votes and what they were
    made of. The same bytes are the same batch: what is there already, and whole, stays as it is.
    """
    digest = hashlib.sha256(data).hexdigest()
    batch_id = name_of(data, told["votes"])
    folder = root / str(told["alias"]) / batch_id
    if not whole(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / EXAMPLES, data)
        manifest = {"id": batch_id, **told, "sha256": digest}
        write_durably(folder / MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    return open_batch(folder)


def whole(folder: Path) -> bool:
    """Whether a batch is there, with the bytes that it was written with."""
    try:
        told = manifest_of(folder)["sha256"]
        return bool(told == hashlib.sha256((folder / EXAMPLES).read_bytes()).hexdigest())
    except (FileNotFoundError, InvalidRecord):
        return False


def manifest_of(folder: Path) -> dict[str, Any]:
    """A batch's manifest. Raises InvalidRecord when it is damaged, FileNotFoundError when there is none."""
    try:
        told = orjson.loads((folder / MANIFEST).read_bytes())
    except orjson.JSONDecodeError:
        told = None
    if not isinstance(told, dict) or not told.keys() >= NEEDED:
        why = "is damaged: remove its folder, a batch is made anew from the archive"
        raise InvalidRecord(f"{folder.parent.name}/{folder.name}/{MANIFEST}", why)
    return told


def open_batch(folder: Path) -> Batch:
    """Read a batch's manifest."""
    told = manifest_of(folder)
    return Batch(
        told["id"],
        folder,
        told["alias"],
        told["votes"],
        told["votes_total"],
        told["newest_vote"],
        told["prompts"],
    )


def read(batch: Batch) -> Examples:
    """The examples of a batch."""
    criteria = manifest_of(batch.folder)["recipe"]["criteria"]
    return examples_of(pq.read_table(batch.folder / EXAMPLES), criteria)


def examples_of(table: Any, criteria: Mapping[str, float]) -> Examples:
    """The examples of a table of SCHEMA, and the weights of their criteria."""
    kinds: defaultdict[str, list[Any]] = defaultdict(list)
    for row in table.to_pylist():
        kinds[row["kind"]].append(_example(row))
    return Examples(kinds["pair"], kinds["thumb"], kinds["demonstration"], kinds["prompt"], criteria)


def _example(row: Mapping[str, Any]) -> Any:
    messages = tuple(orjson.loads(row["messages"]))
    if row["kind"] == "prompt":
        return messages
    if row["kind"] == "demonstration":
        return Demonstration(messages, row["a"], row["weight"])
    rest = {name: row[name] for name in ("subject", "weight", "split", "event_id")}
    rest["reasons"] = tuple(
        orjson.loads(row.get("criteria") or "[]")
    )  # a batch of before weighs its votes itself
    if row["kind"] == "pair":
        return Pair(messages, row["a"], row["b"], row["said"], **rest)
    return Thumb(messages, row["a"], row["said"] == "up", **rest)


def drop_batches(settings: TrainingSettings, subject: str, *, manifests: bool = True) -> None:
    """Remove every batch and unfinished run that may hold the subject, who asked to be forgotten; those of which only
    the ``manifests`` are left too, or only what has words.

    A batch follows from the archive, so the next round makes a new one without them; ids stay in the lineage
    of the adapters that learnt from the old ones.
    """
    for root in (settings.batches_dir, settings.checkpoints_dir):
        for folder in root.glob("*/*"):
            bare = (folder / MANIFEST).exists() and not (folder / EXAMPLES).exists()
            if (manifests or not bare) and may_hold(settings.lineage_dir, folder.name, subject):
                shutil.rmtree(folder, ignore_errors=True)  # a round that ends takes its own away meanwhile


def drop_old_batches(registry: Registry, settings: TrainingSettings, before: float) -> int:
    """Remove the batches, and their checkpoints, that hold texts from before ``before`` (Unix seconds), but not those
    of an alias whose round is under way. Returns how many went.
    """
    gone = 0
    for path in settings.batches_dir.glob(f"*/*/{MANIFEST}"):
        folder = path.parent
        alias = folder.parent.name
        if _too_old(folder, before) and not registry.held(lease_of(alias)):
            shutil.rmtree(settings.checkpoints_dir / alias / folder.name, ignore_errors=True)
            shutil.rmtree(folder)
            gone += 1
    return gone


def tidy(settings: TrainingSettings, alias: str) -> None:
    """Take away what nobody reads any more: the examples of all but an alias's newest batches, and the reward models.
    Manifests stay: what an adapter was made of can be told, and made again.
    """
    for manifest in _newest_first(settings.batches_dir / alias, f"*/{MANIFEST}")[KEPT:]:
        (manifest.parent / EXAMPLES).unlink(missing_ok=True)
    for folder in _newest_first(settings.reward_models_dir / alias, "*")[KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


def _newest_first(root: Path, pattern: str) -> list[Path]:
    found = [(path.stat().st_mtime, path.name, path) for path in root.glob(pattern)]
    return [path for _, _, path in sorted(found, reverse=True)]


def _too_old(folder: Path, before: float) -> bool:
    """Whether a batch holds texts from before ``before``, or cannot tell any more."""
    try:
        return oldest(manifest_of(folder)) < before
    except InvalidRecord as error:
        logger.warning("%s", error)
        return True


def oldest(manifest: Mapping[str, Any]) -> float:
    """Unix seconds at which the first event that the batch may hold was logged; the names of segments begin with it."""
    return min((int(name.partition("-")[0]) / 1000 for name in manifest["segments"]), default=0.0)
