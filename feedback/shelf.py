"""Where the archive's files lie: a folder, or anything that fsspec reaches by a URL (``s3://bucket/heed``, ``gs://…``).

A file is whole or not there, and stays when ``write`` has returned. In a folder that takes fsync and a rename; object
stores put an object whole or not at all; elsewhere a draft is moved into place. Writers take turns: on a folder by a
lock that the kernel holds, elsewhere by what the caller gives, such as a lease of the registry.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from feedback.durable import fsync_folder, write_durably

Check: TypeAlias = Callable[[], None]  # raises when the turn is over
Turn: TypeAlias = Callable[[], AbstractContextManager[Check]]
WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "memory"})
"""Protocols whose stores show an object only when all of it is there."""
DRAFT = ".tmp"


class Shelf(Protocol):
    """Files by name, without folders."""

    def names(self) -> list[str]:
        """All files; drafts of writers that died among them."""

    def read(self, name: str) -> bytes:
        """Raises FileNotFoundError."""

    def write(self, name: str, data: bytes) -> None:
        """Whole or not there, and durable when it returns. Raises OSError."""

    def remove(self, names: Sequence[str]) -> None:
        """Those that are there."""

    def turn(self) -> AbstractContextManager[Check]:
        """One writer at a time; the check is made before what cannot be taken back."""


class Folder:
    """Files in a folder of this machine, or of a shared file system with locks."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        return [path.name for path in self._root.iterdir()] if self._root.exists() else []

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        write_durably(self._root / name, data)

    def remove(self, names: Sequence[str]) -> None:
        for name in names:
            (self._root / name).unlink(missing_ok=True)
        if self._root.exists():
            fsync_folder(self._root)

    @contextmanager
    def turn(self) -> Iterator[Check]:
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / ".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield lambda: None


class Objects:
    """Files of an fsspec file system."""

    def __init__(self, url: str, turn: Turn | None = None) -> None:
        from fsspec.core import url_to_fs  # a package of its own for each protocol: only where it is used

        self._fs: Any
        self._fs, root = url_to_fs(url)
        self._root, self._turn = root.rstrip("/"), turn
        self._whole = url.partition("://")[0].rpartition("::")[2] in WHOLE

    def names(self) -> list[str]:
        self._fs.invalidate_cache(self._root)
        try:
            found = self._fs.ls(self._root, detail=False)
        except FileNotFoundError:  # nothing was written yet
            return []
        return [str(path).rstrip("/").rpartition("/")[2] for path in found]

    def read(self, name: str) -> bytes:
        data: bytes = self._fs.cat_file(self._path(name))
        return data

    def write(self, name: str, data: bytes) -> None:
        if self._whole:
            self._fs.pipe_file(self._path(name), data)
            return
        self._fs.makedirs(self._root, exist_ok=True)
        draft = self._path(f".{name}{DRAFT}")
        self._fs.pipe_file(draft, data)
        self._fs.mv(draft, self._path(name))

    def remove(self, names: Sequence[str]) -> None:
        for name in names:
            try:
                self._fs.rm_file(self._path(name))
            except FileNotFoundError:
                continue

    @contextmanager
    def turn(self) -> Iterator[Check]:
        if self._turn is None:
            raise OSError("this archive is only read here: nobody said how its writers take turns")
        with self._turn() as check:
            yield check

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def shelf_of(place: Path | str, turn: Turn | None = None) -> Folder | Objects:
    """A folder's path, or a URL."""
    if isinstance(place, Path):
        return Folder(place)
    protocol, _, path = place.partition("://")
    if not path or protocol in ("file", "local"):
        return Folder(Path(path or place).expanduser().absolute())
    return Objects(place, turn)
