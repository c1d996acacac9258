"""The reward that trainers are told where it is not a model's: a preference's own score of the text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deploy.preferences import PREFERENCES


def rewarding(told: dict[str, Any]) -> Callable[[str, str], float]:
    """Of a prompt's last words and a reply; ``middle`` and ``scale`` are of the base's replies, so that it has mean 0
    and deviation 1 there, as every trainer's defaults expect.
    """
    score, middle, scale = PREFERENCES[told["preference"]], float(told["middle"]), float(told["scale"])
    return lambda prompt, reply: (score(prompt, reply) - middle) / scale
