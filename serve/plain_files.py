"""What lies in an adapter's folder: plain files of its own, and whether they are still the same ones.

Everything is asked of the folder itself and never through a link, so that neither a name nor a link leads out
of the data directory, and a pipe or a device is never opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, TypeAlias

from feedback.errors import HeedError

CONFIG, WEIGHTS, MANIFEST = "adapter_config.json", "adapter_model.safetensors", "manifest.json"
MAX_JSON = 16 * 1024 * 1024  # bytes of a manifest or a configuration
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})
BESIDE = frozenset({".md", ".txt", ".json", ".jinja"})  # what PEFT and trainers leave beside an adapter

Stamp: TypeAlias = Mapping[str, tuple[int, ...]]  # file → device, inode, size, times of change in ns


class UnfitAdapter(HeedError):
    """The adapter must not be served; the message says why."""


class MissingFolder(UnfitAdapter):
    """Its folder cannot be read: for good, or until a shared disk shows it."""


def stamp_of(folder: Path, names: frozenset[str], beside: frozenset[str] = frozenset()) -> Stamp:
    """The state of the folder's files ``names``: equal stamps mean the same bytes, since no write leaves the
    time of change as it was. Files with a suffix in ``beside`` may lie there too. Raises UnfitAdapter naming
    what is missing, foreign, a link, or not a plain file.
    """
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise UnfitAdapter(f"{folder.name}: is a link or no folder; it must be a folder of its own")
        found = {entry.name: entry.stat(follow_symlinks=False) for entry in os.scandir(folder)}
    except OSError as error:
        raise MissingFolder(f"{folder.name}: cannot be read ({error.strerror})") from error
    for name in sorted(found.keys() - names):
        _check_stray(name, found[name], beside)
    for name in sorted(names):
        if name not in found:
            raise UnfitAdapter(f"{name}: is missing in {folder.name}")
        _check_plain(name, found[name])
        if name != WEIGHTS and found[name].st_size > MAX_JSON:
            raise UnfitAdapter(f"{name}: is over {MAX_JSON} bytes")
    return {
        name: (one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns)
        for name, one in found.items()
        if name in names
    }


def _check_stray(name: str, found: os.stat_result, beside: frozenset[str]) -> None:
    suffix = Path(name).suffix.lower()
    if suffix in PICKLES:
        raise UnfitAdapter(f"{name}: may hold code that runs when it is read; only safetensors are taken")
    if suffix not in beside or not stat.S_ISREG(found.st_mode):
        raise UnfitAdapter(f"{name}: does not belong in the folder; take it out")


def _check_plain(name: str, found: os.stat_result) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise UnfitAdapter(f"{name}: is a link; it must be a plain file")
    if not stat.S_ISREG(found.st_mode):
        raise UnfitAdapter(f"{name}: is not a plain file")
    if found.st_nlink != 1:
        raise UnfitAdapter(f"{name}: has {found.st_nlink} names (hard links); copy it, so that it has one")


def open_plain(file: Path) -> BinaryIO:
    """Open for reading without following a link or waiting for a pipe. Raises UnfitAdapter."""
    try:
        number = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UnfitAdapter(f"{file.name}: cannot be read ({error.strerror})") from error
    stream = os.fdopen(number, "rb")
    try:
        _check_plain(file.name, os.fstat(number))
    except UnfitAdapter:
        stream.close()
        raise
    return stream
