"""Proves a loaded adapter on its engine: its log-probabilities are the trainer's, and not the base's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias

from serve.engine_client import EngineClient
from serve.plain_files import UnfitAdapter

APPLIED = 1e-4  # nats: where the trainer saw at least this mean difference to base, the engine must too


Question: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]  # tokens of a prompt and of its completion
Told: TypeAlias = MutableMapping[Question, Sequence[float]]


class EngineMismatch(Exception):
    """The engine's base model is not the one the adapter was trained on: not the adapter's fault."""


def mean_difference(left: Sequence[float], right: Sequence[float]) -> float:
    """Mean absolute difference, nats per token; infinite when the lengths differ or there is nothing."""
    if len(left) != len(right) or not left:
        return float("inf")
    return sum(abs(a - b) for a, b in zip(left, right, strict=True)) / len(left)


async def prove(
    client: EngineClient,
    adapter: str,
    base_name: str,
    probes: Sequence[Mapping[str, Any]],
    tolerance: float,
    told: Told,
) -> None:
    """Run every probe. ``tolerance`` is in nats per token; ``told`` keeps what the engine's base answered, so
    that it is asked once and not for every adapter. Raises UnfitAdapter when the adapter does not answer as its
    trainer saw it, EngineMismatch when the engine's base does not.
    """
    if not probes:
        raise UnfitAdapter("the manifest has no probes, so nothing can prove what it answers")
    asked = [(tuple(probe["prompt_token_ids"]), tuple(probe["completion_token_ids"])) for probe in probes]
    bases = await _answers(client, base_name, [key for key in asked if key not in told])
    known = {**told, **bases}
    for number, (key, probe) in enumerate(zip(asked, probes, strict=True)):
        off = mean_difference(known[key], probe["base_logprobs"])
        if off > tolerance:
            raise EngineMismatch(f"probe {number}: the engine's base is {off:.3f} nats off the trainer's")
    told.update(bases)
    answered = await _answers(client, adapter, asked)
    for number, (key, probe) in enumerate(zip(asked, probes, strict=True)):
        off = mean_difference(answered[key], probe["logprobs"])
        if off > tolerance:
            raise UnfitAdapter(f"probe {number}: {off:.3f} nats off the trainer's log-probabilities")
        taught = mean_difference(probe["logprobs"], probe["base_logprobs"])
        if taught > APPLIED and mean_difference(answered[key], known[key]) < taught / 10:
            raise UnfitAdapter(f"probe {number}: it answers as the base does, so it is not applied")


async def _answers(
    client: EngineClient, served: str, asked: Sequence[Question]
) -> dict[Question, Sequence[float]]:
    """Log-probabilities of each completion after its prompt, all asked side by side: the engine batches them."""
    told = await asyncio.gather(*(client.log_probabilities(served, *question) for question in asked))
    return dict(zip(asked, told, strict=True))
