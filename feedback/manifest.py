"""An adapter's folder: its manifest, written last, and the check that its bytes are what it says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import orjson

from feedback.durable import fsync_folder, write_durably
from feedback.errors import InvalidRecord

__all__ = [
    "Manifest",
    "adapter_id",
    "fingerprint",
    "fsync_folder",
    "read_manifest",
    "sha256_of",
    "verify_files",
    "write_durably",
    "write_manifest",
]

NAME = "manifest.json"
FILES = frozenset({"adapter_config.json", "adapter_model.safetensors"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an adapter is and where it comes from."""

    id: str
    alias: str
    base: str  # fingerprint of the base it was trained on
    files: Mapping[str, str]  # name → sha256, hex
    created: float
    parent: str | None = None
    batches: tuple[str, ...] = ()
    reward_model: str | None = None
    training: Mapping[str, Any] | None = None
    gate: Mapping[str, Any] | None = None
    probes: tuple[Mapping[str, Any], ...] = ()
    rank: int = 0
    target_modules: tuple[str, ...] = ()


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def adapter_id(sequence: int, digest: str) -> str:
    """``a-000012-<12 hex>``: content-addressed, and sorts by age."""
    return f"a-{sequence:06d}-{digest[:12]}"


def fingerprint(model_path: str) -> str:
    """16 hex digits over the base's configuration, tokenizer and weights; of a hub name, over the name."""
    folder = Path(model_path)
    digest = hashlib.sha256()
    if not folder.is_dir():
        return hashlib.sha256(f"hub:{model_path}".encode()).hexdigest()[:16]
    names = [folder / "config.json", folder / "tokenizer.json", *sorted(folder.glob("*.safetensors"))]
    for path in names:
        if path.exists():
            digest.update(f"{path.name}\0{sha256_of(path)}\0".encode())
    return digest.hexdigest()[:16]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """The folder's last file: readers ignore a folder without it."""
    write_durably(folder / NAME, orjson.dumps(asdict(manifest), option=orjson.OPT_INDENT_2))


def read_manifest(folder: Path) -> Manifest:
    """Raises InvalidRecord when it is missing or does not parse."""
    try:
        body = orjson.loads((folder / NAME).read_bytes())
    except FileNotFoundError as error:
        raise InvalidRecord(NAME, f"is missing in {folder.name}") from error
    except orjson.JSONDecodeError as error:
        raise InvalidRecord(NAME, f"is not JSON ({error})") from error
    if not isinstance(body, dict):
        raise InvalidRecord(NAME, "must be a JSON object")
    known = {field.name for field in fields(Manifest)}
    values: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in body.items() if name in known
    }
    try:
        return Manifest(**values)
    except TypeError as error:
        raise InvalidRecord(NAME, str(error)) from error


def verify_files(folder: Path, manifest: Manifest, root: Path | None = None) -> None:
    """Raises InvalidRecord naming the file that is missing, foreign, linked, or not as the manifest says."""
    real = folder.resolve()
    if root is not None and not real.is_relative_to(root.resolve()):
        raise InvalidRecord("path", "lies outside the data directory")
    present = {path.name for path in folder.iterdir()} - {NAME}
    if set(manifest.files) != FILES:
        raise InvalidRecord("files", f"must list exactly {', '.join(sorted(FILES))}")
    if present != FILES:
        odd = sorted(present ^ FILES)
        raise InvalidRecord(
            odd[0], "is missing" if odd[0] in FILES else "does not belong in an adapter's folder"
        )
    for name, wanted in manifest.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise InvalidRecord(name, "must be a plain file, not a link")
        if sha256_of(path) != wanted:
            raise InvalidRecord(name, "is not the file that was published: its sha256 differs")
