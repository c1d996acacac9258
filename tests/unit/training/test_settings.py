"""What the workers' settings refuse."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from training.settings import TrainingSettings


def test_one_process_has_nobody_to_share_the_base_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEED_TRAINING_SHARD_BASE", "true")
    with pytest.raises(
        ValidationError, match=r"HEED_TRAINING_SHARD_BASE.*HEED_TRAINING_PROCESSES is 1"
    ) as told:
        TrainingSettings()
    assert told.value.errors()[0]["loc"] == ("training_shard_base",)
    monkeypatch.setenv("HEED_TRAINING_PROCESSES", "2")
    assert TrainingSettings().overridden({"ppo_seconds": 5.0}).training_shard_base
    assert not TrainingSettings(training_shard_base=False, training_processes=1).training_shard_base
