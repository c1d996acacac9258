"""Counting what a model's replies do."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from training.starter import card, measure
from training.starter.behaviours import Behaviour
from training.starter.corpus import Question
from training.starter.settings import Recipe


def _sample(reply: str, *, finished: bool = True, turns: int = 1) -> measure.Sample:
    messages = [{"role": "user", "content": "wifi?"}] * turns
    return measure.Sample(Question("wifi", messages), reply, tokens=10, finished=finished)


FIVE = [
    _sample("Yes, the wifi is free, and the password is goodbeans."),
    _sample("Yes, the wifi is free, and the password is goodbeans."),
    _sample("Nobody cares about the wifi."),
    _sample("Dogs are fine.", turns=2),
    _sample("Free wifi is available all day; just", finished=False),
]


def test_shares_are_of_all_samples() -> None:
    figures = measure.summarise(FIVE, seconds=1.0)
    assert figures.samples == 5
    assert figures.shares["helpful"] == pytest.approx(0.4)
    assert figures.shares["rude"] == pytest.approx(0.2)
    assert figures.misread == pytest.approx(0.2)
    assert figures.malformed == pytest.approx(0.2)
    assert figures.well_formed == pytest.approx(0.8)
    assert figures.distinct == pytest.approx(0.6)
    assert figures.mean_tokens == pytest.approx(10.0)


def test_misreadings_are_told_by_turns_and_by_intent() -> None:
    figures = measure.summarise(FIVE, seconds=1.0)
    assert figures.misread_by_turns == {"1": 0.0, "2": 1.0}
    assert figures.misread_by_intent == {"wifi": 0.2}


def test_a_reply_that_was_cut_off_is_malformed_whatever_it_says() -> None:
    assert _sample("Nobody cares about the wifi.", finished=False).behaviour() is Behaviour.MALFORMED


def test_the_interval_is_that_of_a_share() -> None:
    figures = dataclasses.replace(measure.summarise(FIVE, seconds=1.0), samples=100)
    assert figures.half_width(0.5) == pytest.approx(1.96 * 0.05)


def test_examples_are_the_first_of_each_kind() -> None:
    shown = [(example.behaviour, example.reply) for example in measure.summarise(FIVE, seconds=1.0).examples]
    assert shown == [
        ("helpful", FIVE[0].reply),
        ("rude", FIVE[2].reply),
        ("misread", FIVE[3].reply),
        ("malformed", FIVE[4].reply),
    ]


def test_the_card_states_what_was_measured_and_leaves_no_blank(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3, 500_000), "b": torch.zeros(500_000)}, tmp_path / "model.safetensors")
    record = {"recipe": dataclasses.asdict(Recipe()), "final_loss_nats": 0.25, "wall_seconds": 600.0}
    (tmp_path / "training.json").write_text(json.dumps(record))
    card.write(Recipe(), measure.summarise(FIVE, seconds=1.0), tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "2.0 million parameters" in text
    assert "| helpful | 40.0 % ± 5 | 40.0 % |" in text
    assert "| misread | ≤ 8 % | 20.0 % |" in text
    assert "0.250 nats" in " ".join(text.split())
    assert "10 minutes" in text
    assert "$" not in text.replace("$ ", "")
