"""How far a fit's log-odds may be believed: a temperature, and a share of votes that lapse.

A fit knows what it was pulled to and what it was told, not how wrong its own shape is. Two numbers from votes that it
did not learn from mend that. The temperature divides all log-odds (Guo et al. 2017). The lapse ε is the share of
votes that are turned round whatever was shown: slips, carelessness, another taste. No difference of scores makes
such a vote sure, so that P(a) = ε + (1 − 2ε)·σ(d / T) ends at 1 − ε and not at 1 (Wichmann & Hill 2001).

Of few votes a likelihood alone finds extremes: T and ε have priors, and the likeliest of a grid is taken.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

TEMPERATURES = tuple(2 ** (step / 4) for step in range(-8, 9))
LAPSES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)


@dataclass(frozen=True)
class Calibration:
    """What stands between log-odds and the probability of a vote."""

    temperature: float = 1.0  # above 1: the fit was too sure of itself
    lapse: float = 0.0  # in [0, ½)

    def probability(self, logits: Tensor) -> Tensor:
        """Of log-odds (n,) that a vote says the first, or up."""
        return self.lapse + (1 - 2 * self.lapse) * torch.sigmoid(logits / self.temperature)

    def nll(self, said: Callable[[Tensor], Tensor], outcome: Tensor) -> Tensor:
        """Negative log-likelihood (n,) in nats of outcomes in [0, 1], ½ a tie, where ``said`` tells that of votes
        that do not lapse. A tie turned round is one.
        """
        if not self.lapse:
            return said(outcome)
        meant, turned = math.log1p(-self.lapse) - said(outcome), math.log(self.lapse) - said(1 - outcome)
        return -torch.logaddexp(meant, turned)

    def surprise(self, spread: float, mean: float) -> float:
        """Minus the logarithm of its prior, but for a constant: log T is normal about 0 with deviation ``spread``,
        ε exponential with this ``mean``.
        """
        return (math.log(self.temperature) / spread) ** 2 / 2 + self.lapse / mean


UNTOUCHED = Calibration()
GRID = tuple(Calibration(*both) for both in itertools.product(TEMPERATURES, LAPSES))
