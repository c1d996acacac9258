"""The benchmark of kills in small: three SIGKILLs of a tiny model's learning, and the same bytes."""

from __future__ import annotations

from pathlib import Path

from benchmarks.kills import digest, figures, series
from benchmarks.results import Row
from tests.unit.training.tiny import save_tiny


def test_learning_killed_three_times_gives_the_bytes_of_learning_undisturbed(tmp_path: Path) -> None:
    model = save_tiny(tmp_path / "model")
    rows = list(series(str(model), tmp_path, kills=3, runs=1, seeds=1, steps=3))
    assert sum(len(row["kills"]) for row in rows) == 3
    assert all(row["same"] for row in rows)


def test_a_digest_is_of_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    before = digest(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert digest(tmp_path) != before
    (tmp_path / "b").rename(tmp_path / "a")
    assert digest(tmp_path) == before
    (tmp_path / "a").write_bytes(b"2")
    assert digest(tmp_path) != before


def row(*writing: bool, same: bool) -> Row:
    return {"kills": [{"writing": told} for told in writing], "same": same, "model": "tiny"}


def test_the_figure_counts_kills_and_adapters_with_other_bytes() -> None:
    rows = [row(True, False, same=True), row(True, same=False), row(same=True), row(False, same=True)]
    (line,) = figures(rows)
    assert line.heed == "4: 1 of 3 adapters with other bytes"
    assert line.what.endswith("(tiny model), 2 within the write of a checkpoint")
