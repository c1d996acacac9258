"""Which adapters learnt from whom, when the batches are gone."""

from __future__ import annotations

from pathlib import Path

from feedback.lineage import forget, learnt, note
from feedback.memory import MemoryRegistry
from tests.contract.making import adapter


def test_adapters_of_batches_with_the_subject_are_named_and_no_note_names_anybody(tmp_path: Path) -> None:
    registry, root = MemoryRegistry(), tmp_path / "lineage"
    registry.add_adapter(adapter("a-1", batches=("b-1",)))
    registry.add_adapter(adapter("a-2", batches=("b-2",)))
    registry.add_adapter(adapter("a-3", batches=("b-1", "b-2")))
    note(root, "b-1", {"s-1", "s-2"})
    note(root, "b-2", {"s-2"})
    assert learnt(root, registry, "s-1") == ["a-1", "a-3"]
    assert learnt(root, registry, "s-2") == ["a-1", "a-2", "a-3"]
    assert learnt(root, registry, "s-3") == []
    assert not [path for path in root.iterdir() if b"s-1" in path.read_bytes()]
    forget(root, "s-1")
    forget(root, "s-1")
    assert learnt(root, registry, "s-1") == []
    assert learnt(root, registry, "s-2") == ["a-1", "a-2", "a-3"]


def test_without_notes_nobody_had_learnt(tmp_path: Path) -> None:
    assert learnt(tmp_path / "none", MemoryRegistry(), "s-1") == []
    forget(tmp_path / "none", "s-1")
