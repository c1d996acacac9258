"""A batch is not learnt from when somebody in it has asked to be forgotten since."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedback.facts import mark_of
from feedback.memory import MemoryEventLog
from training.errors import BatchForgotten
from training.forgotten import Forgotten


def test_a_wish_of_somebody_in_it_ends_the_round_and_takes_the_folders_away(tmp_path: Path) -> None:
    log, batch = MemoryEventLog(), tmp_path / "batch"
    batch.mkdir()
    log.forget("s-early", 90.0)  # before the batch was made: it holds only what was said since
    log.forget("s-other", 110.0)
    look = Forgotten(log, {mark_of("s-early"), mark_of("s-in")}, 100.0, (batch, tmp_path / "none"))
    look()
    log.forget("s-in", 101.0)
    with pytest.raises(BatchForgotten):
        look()
    assert not batch.exists()
