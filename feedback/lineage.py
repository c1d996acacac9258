"""Which batches held sayings of a subject: kept when a batch itself is gone, so that whoever asks to be forgotten is
told which adapters had learnt from them. A note names nobody: it holds marks, hashes of pseudonyms.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import orjson

from feedback.durable import write_durably
from feedback.facts import mark_of
from feedback.protocols import Registry


def note(root: Path, batch: str, subjects: Collection[str]) -> None:
    """Durable when it returns; before anything learns from the batch."""
    root.mkdir(parents=True, exist_ok=True)
    body = {"batch": batch, "marks": sorted(map(mark_of, subjects))}
    write_durably(root / f"{batch}.json", orjson.dumps(body))


def marks(root: Path, batch: str) -> frozenset[str]:
    """Of everybody in the batch who was not forgotten since; none where there is no note."""
    try:
        return frozenset(orjson.loads((root / f"{batch}.json").read_bytes())["marks"])
    except FileNotFoundError:
        return frozenset()


def may_hold(root: Path, batch: str, subject: str) -> bool:
    """Whether the subject is in the batch, as far as is known: of one without a note nothing is."""
    path = root / f"{batch}.json"
    return not path.exists() or mark_of(subject).encode() in path.read_bytes()


def learnt(root: Path, registry: Registry, subject: str) -> list[str]:
    """Ids of the adapters that learnt from batches with the subject in them, oldest first."""
    mark = mark_of(subject).encode()
    batches = {path.stem for path in root.glob("*.json") if mark in path.read_bytes()}
    return [adapter.id for adapter in registry.adapters() if batches & set(adapter.batches)]


def forget(root: Path, subject: str) -> None:
    """Out of every note. Safe to repeat."""
    mark = mark_of(subject)
    for path in root.glob("*.json"):
        data = path.read_bytes()
        if mark.encode() in data:
            body = orjson.loads(data)
            body["marks"] = [one for one in body["marks"] if one != mark]
            write_durably(path, orjson.dumps(body))
