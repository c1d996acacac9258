"""Sides: most train, some only judge, and whoever is on one stays there."""

from __future__ import annotations

from training.splits import key_of, split_of, splits


def test_a_prompt_stays_on_its_side() -> None:
    prompts = [({"role": "user", "content": f"q{n}"},) for n in range(2000)]
    sides = [split_of(prompt, "s", 0.1) for prompt in prompts]
    assert 0.07 < sides.count("holdout") / 2000 < 0.13
    assert sides == splits([key_of(prompt) for prompt in prompts], ["s"] * 2000, 0.1)


def test_all_or_none_can_be_held_out() -> None:
    assert splits(["a", "b"], ["s", "s"], 0.0) == ["train", "train"]
    assert splits(["a", "b"], ["s", "s"], 1.0) == ["holdout", "holdout"]
