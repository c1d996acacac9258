"""Which adapters this gateway has verified, and whether their files are still those it looked at."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from feedback.manifest import Manifest
from serve.plain_files import Stamp, UnfitAdapter, stamp_of
from serve.verification import FILES, Base, verify


class Fitness:
    """Verdicts by adapter. Its methods read files: call them from a thread."""

    def __init__(self, root: Path, rank_cap: int) -> None:
        self.base = Base()
        self._root, self._rank_cap = root, rank_cap
        self._known: dict[str, tuple[Manifest, Stamp]] = {}

    def manifest(self, adapter: str) -> Manifest:
        """The manifest of a fit adapter; verified anew when its files are not those of the last time. Raises
        UnfitAdapter.
        """
        if not self.unchanged(adapter):
            self._known[adapter] = verify(self._root, adapter, self.base, rank_cap=self._rank_cap)
        return self._known[adapter][0]

    def unchanged(self, adapter: str) -> bool:
        """Whether it was verified, and no file was touched since."""
        if adapter not in self._known:
            return False
        try:
            same = stamp_of(self._root / adapter, FILES) == self._known[adapter][1]
        except UnfitAdapter:
            same = False
        if not same:
            self._known.pop(adapter, None)
        return same

    def changed(self, adapters: Iterable[str]) -> dict[str, str]:
        """Of these, the ones that were verified and are fit no more, and why."""
        found = {}
        for adapter in adapters:
            if adapter in self._known and not self.unchanged(adapter):
                try:
                    self.manifest(adapter)
                except UnfitAdapter as error:
                    found[adapter] = str(error)
        return found
