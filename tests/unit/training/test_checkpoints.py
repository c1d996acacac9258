"""Checkpoints: whole or not there, whatever was torn, and no more of them than two."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.checkpoints import Checkpoints
from training.rollouts import Reply

REPLIES = [
    Reply("hi ü", (1, 2), (3, 4), (-0.1, float(torch.tensor(-1 / 3))), "stop"),
    Reply("", (1,), (9,), (-1e-30,), "length"),
]


def state(step: int) -> dict[str, Any]:
    return {"position": {"step": step}, "weights": [torch.full((3,), float(step))]}


def steps(kept: Checkpoints) -> list[int]:
    return [one["position"]["step"] for one in kept.states()]


def test_the_newest_comes_first_then_the_one_before_and_no_more_are_kept(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    for step in (5, 10, 15, 100):
        kept.save(step, state(step))
    assert steps(kept) == [100, 15]
    torch.testing.assert_close(next(kept.states())["weights"][0], torch.full((3,), 100.0))
    names = ["000015.json", "000015.pt", "000100.json", "000100.pt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_a_folder_without_any_has_no_state_and_no_rollouts(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "new" / "folder")
    assert steps(kept) == []
    assert kept.rollouts(0) is None


@pytest.mark.parametrize("before", ["the state was written", "the manifest was written"])
def test_a_kill_inside_a_save_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    class Killed(BaseException):
        pass

    kept, plain, calls = Checkpoints(tmp_path), Path.replace, 0
    kept.save(1, state(1))
    wanted = 1 if before == "the state was written" else 2

    def replacing(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == wanted:
            raise Killed
        return plain(self, target)

    monkeypatch.setattr(Path, "replace", replacing)
    with pytest.raises(Killed):
        kept.save(2, state(2))
    monkeypatch.undo()
    assert steps(Checkpoints(tmp_path)) == [1]
    kept.save(2, state(2))
    assert steps(kept) == [2, 1]


@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=40, deadline=None)
def test_one_bit_turned_anywhere_in_the_newest_state_leaves_the_one_before(
    tmp_path_factory: pytest.TempPathFactory, at: float, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("bits")
    kept = Checkpoints(folder)
    kept.save(1, state(1))
    kept.save(2, state(2))
    data = bytearray((folder / "000002.pt").read_bytes())
    data[int(at * len(data))] ^= 1 << bit
    (folder / "000002.pt").write_bytes(bytes(data))
    assert steps(kept) == [1]


@pytest.mark.parametrize("manifest", [b"", b"{", b"{}", b'{"bytes": 1}'])
def test_a_torn_manifest_leaves_the_one_before(tmp_path: Path, manifest: bytes) -> None:
    kept = Checkpoints(tmp_path)
    kept.save(1, state(1))
    kept.save(2, state(2))
    (tmp_path / "000002.json").write_bytes(manifest)
    assert steps(kept) == [1]


def test_what_a_killed_writer_left_beside_goes_with_the_next_save(tmp_path: Path) -> None:
    (tmp_path / f".000003.pt.{os.getpid()}-1.tmp").write_bytes(b"half")
    (tmp_path / "000007.pt").write_bytes(b"a state whose manifest was never written")
    kept = Checkpoints(tmp_path)
    kept.save(5, state(5))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000005.json", "000005.pt"]


def test_rollouts_come_back_to_the_last_bit(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.keep_rollouts(7, REPLIES)
    assert kept.rollouts(7) == REPLIES
    assert kept.rollouts(8) is None


def test_torn_rollouts_are_none(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.keep_rollouts(7, REPLIES)
    file = tmp_path / "rollouts-000007.json"
    file.write_bytes(file.read_bytes()[:-4])
    assert kept.rollouts(7) is None


def test_rollouts_stay_as_long_as_a_checkpoint_before_them_does(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    for step in range(12):
        if step and step % 5 == 0:
            kept.save(step, state(step))
        kept.keep_rollouts(step, REPLIES)
    assert [step for step in range(12) if kept.rollouts(step)] == [5, 6, 7, 8, 9, 10, 11]
