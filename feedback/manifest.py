"""An adapter's folder: its manifest, written last, and the check that its bytes are what it says."""

from __future__ import annotations

import hashlib
import re
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
    "content_digest",
    "fingerprint",
    "fsync_folder",
    "read_manifest",
    "sha256_of",
    "verify_files",
    "write_durably",
    "write_manifest",
]

NAME = "manifest.json"
_SHA256 = re.compile(r"[0-9a-f]{64}")
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


def content_digest(files: Mapping[str, str]) -> str:
    """Hex digest of an adapter's bytes, of the digests of its two files: what its id is made of."""
    return hashlib.sha256("".join(files[name] for name in sorted(FILES)).encode()).hexdigest()


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
    """Raises InvalidRecord naming the field that is missing or of the wrong kind."""
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
        name: tuple(value) if isinstance(value, list) else value
        for name, value in body.items()
        if name in known
    }
    _check_kinds(values)
    return Manifest(**values)


def _check_kinds(values: Mapping[str, Any]) -> None:
    for name, kind in (
        ("id", str),
        ("alias", str),
        ("base", str),
        ("files", dict),
        ("created", (int, float)),
    ):
        if not isinstance(values.get(name), kind):
            raise InvalidRecord(name, "is missing or of the wrong kind")
    for name in ("batches", "probes", "target_modules"):
        if not isinstance(values.get(name, ()), tuple):
            raise InvalidRecord(name, "must be a list")
    for file, digest in values["files"].items():
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise InvalidRecord("files", f"{file} needs the 64 hex digits of its sha256")


def verify_files(folder: Path, manifest: Manifest, root: Path | None = None) -> None:
    """Check that the folder holds the manifest's bytes and nothing else: the two files of a PEFT adapter, as
    safetensors, and no links. ``root``: the folder must really lie in it.

    Raises InvalidRecord naming what is missing, foreign, linked, outside, or not as the manifest says.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise InvalidRecord("path", f"{folder.name} is no folder, or a link")
    if root is not None and not folder.resolve().is_relative_to(root.resolve()):
        raise InvalidRecord("path", "lies outside the data directory")
    if set(manifest.files) != FILES:
        raise InvalidRecord("files", f"must list exactly {', '.join(sorted(FILES))}")
    odd = {path.name for path in folder.iterdir()} ^ (FILES | {NAME})
    for name in sorted(odd):
        raise InvalidRecord(name, "is missing" if name in FILES | {NAME} else "does not belong in the folder")
    for name in sorted(FILES | {NAME}):
        if (folder / name).is_symlink() or not (folder / name).is_file():
            raise InvalidRecord(name, "must be a plain file, not a link")
    for name, wanted in manifest.files.items():
        if sha256_of(folder / name) != wanted:
            raise InvalidRecord(name, "is not the file that was published: its sha256 differs")
