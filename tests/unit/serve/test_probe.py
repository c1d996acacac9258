"""An adapter is proved by what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from serve.plain_files import UnfitAdapter
from serve.probe import EngineMismatch, mean_difference, prove

PROBE = {
    "prompt_token_ids": [1],
    "completion_token_ids": [2, 3],
    "logprobs": [-0.5, -1.5],
    "base_logprobs": [-0.55, -1.55],
}


class Answers:
    """An engine client that has one answer a model."""

    def __init__(self, adapter: list[float], base: list[float]) -> None:
        self.told = {"a-1": adapter, "base": base}
        self.asked: list[str] = []

    async def log_probabilities(self, served: str, _: Sequence[int], __: Sequence[int]) -> list[float]:
        self.asked.append(served)
        return self.told[served]


async def proved(adapter: list[float], base: list[float], probes: Sequence[Any] = (PROBE,)) -> list[str]:
    """Proves it, and tells which models were asked."""
    answers = Answers(adapter, base)
    await prove(answers, "a-1", "base", probes, 0.1, {})  # type: ignore[arg-type]
    return answers.asked


async def test_the_trainers_log_probabilities_within_tolerance_prove_it() -> None:
    assert await proved([-0.5, -1.5], [-0.55, -1.55]) == ["base", "a-1"]
    assert await proved([-0.55, -1.6], [-0.5, -1.5]) == ["base", "a-1"]


async def test_other_log_probabilities_do_not() -> None:
    with pytest.raises(UnfitAdapter, match=r"0\.200 nats off"):
        await proved([-0.7, -1.7], [-0.55, -1.55])


async def test_answering_as_the_base_does_is_no_proof_even_within_tolerance() -> None:
    with pytest.raises(UnfitAdapter, match="not applied"):
        await proved([-0.55, -1.55], [-0.55, -1.55])


async def test_an_adapter_that_changes_nothing_may_answer_as_the_base_does() -> None:
    same = {**PROBE, "base_logprobs": PROBE["logprobs"]}
    assert await proved([-0.5, -1.5], [-0.5, -1.5], [same]) == ["base", "a-1"]


async def test_another_base_is_the_engines_fault() -> None:
    with pytest.raises(EngineMismatch):
        await proved([-0.5, -1.5], [-3.0, -3.0])


async def test_without_probes_nothing_is_proved() -> None:
    with pytest.raises(UnfitAdapter, match="no probes"):
        await proved([-0.5, -1.5], [-0.55, -1.55], ())


def test_lists_of_unlike_length_are_infinitely_apart() -> None:
    assert mean_difference([1.0], [1.0, 2.0]) == float("inf")
    assert mean_difference([], []) == float("inf")
    assert mean_difference([1.0, 2.0], [2.0, 4.0]) == 1.5
