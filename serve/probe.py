"""Proves a loaded adapter on its engine: its log-probabilities are the trainer's, and not the base's."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias

from serve.engine_client import EngineClient
from serve.plain_files import UnfitAdapter

APPLIED = 1e-4  # nats: where the trainer saw at least this mean difference to base, the engine must too


Told: TypeAlias = MutableMapping[tuple[tuple[int, ...], tuple[int, ...]], Sequence[float]]


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
    for number, probe in enumerate(probes):
        prompt, completion = probe["prompt_token_ids"], probe["completion_token_ids"]
        wanted, wanted_base = probe["logprobs"], probe["base_logprobs"]
        key = (tuple(prompt), tuple(completion))
        base = told.get(key) or await client.log_probabilities(base_name, prompt, completion)
        off = mean_difference(base, wanted_base)
        if off > tolerance:
            raise EngineMismatch(f"probe {number}: the engine's base is {off:.3f} nats off the trainer's")
        told[key] = base
        answered = await client.log_probabilities(adapter, prompt, completion)
        off = mean_difference(answered, wanted)
        if off > tolerance:
            raise UnfitAdapter(f"probe {number}: {off:.3f} nats off the trainer's log-probabilities")
        taught = mean_difference(wanted, wanted_base)
        if taught > APPLIED and mean_difference(answered, base) < taught / 10:
            raise UnfitAdapter(f"probe {number}: it answers as the base does, so it is not applied")
