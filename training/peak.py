"""How far a policy may go before what it gains is the reward model's and not the users'.

Gao, Schulman and Hilton (2022, arXiv 2210.10760) found for policies trained against a learnt reward, with d = √KL from
where they began, that what they are truly worth goes as

    R(d) = d·(α − β·log d),    whose peak is at d* = exp(α/β − 1)

Worth is told here by a model of votes that PPO does not climb. A run goes on until the peak lies well behind it, since
a peak that is only guessed from the way up is often guessed too near; then the policy is taken that stood nearest to
1.1 times the way. There it has 1.1·(1 − log 1.1) = 99.5 % of the height, and the fit may be a third too low or a fifth
too high before 5 % are lost: that model knows replies like those it was fitted to, and of a policy that has come
far it tends to say too early that enough is enough (docs/algorithms.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

POINTS = 8
"""Steps before a fit is believed: it has three unknowns, and the first steps of a run stand still."""
SURE = 3.0
"""Standard errors by which β must be above 0: a gain that does not flatten has no peak that could be told."""
BEHIND = 1.6
"""A run is over this many times as far out as the peak."""
SPACING = 1.2
"""How much farther out the next snapshot is."""


@dataclass(frozen=True)
class Curve:
    """A fit of c + d·(α − β·log d); c is what the policy was worth where it began."""

    start: float  # c
    alpha: float
    beta: float
    error: float  # standard error of β

    @property
    def peak(self) -> float:
        """d*, √nats; infinite where the fit does not show that it bends."""
        if self.beta <= SURE * self.error:
            return math.inf
        return math.exp(min(50.0, self.alpha / self.beta - 1))


def fitted(distance: Sequence[float], worth: Sequence[float]) -> Curve | None:
    """Least squares over the steps of a run: √nats from where it began, and mean worth. None: too few, or all at
    one distance.
    """
    d = np.asarray(distance, dtype=float)
    bend = -d * np.log(np.where(d > 0, d, 1.0))
    design = np.stack([np.ones_like(d), d, bend], 1)
    if len(d) < POINTS or np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    inverse, said = np.linalg.inv(design.T @ design), np.asarray(worth, dtype=float)
    start, alpha, beta = (float(one) for one in inverse @ design.T @ said)
    left = said - design @ (start, alpha, beta)
    variance = float(left @ left) / (len(d) - design.shape[1])
    return Curve(start, alpha, beta, math.sqrt(max(0.0, variance * float(inverse[2, 2]))))


@dataclass
class Trail:
    """Where a run has been: what it was worth at each step, and snapshots on the way, nearest first."""

    distance: list[float] = field(default_factory=list)  # √nats
    worth: list[float] = field(default_factory=list)
    places: list[float] = field(default_factory=list)  # of the snapshots, √nats
    snapshots: list[list[Tensor]] = field(default_factory=list)

    def note(self, kl: float, worth: float, snapshot: Callable[[], list[Tensor]] | None) -> None:
        """One step more, at ``kl`` nats. ``snapshot`` None: not to be kept, whatever it was worth."""
        here = math.sqrt(max(0.0, kl))
        self.distance.append(here)
        self.worth.append(worth)
        if snapshot is not None and (not self.places or here > SPACING * self.places[-1]):
            self.places.append(here)
            self.snapshots.append([weight.cpu() for weight in snapshot()])

    @property
    def peak(self) -> float:
        """√nats; infinite where none can be told."""
        curve = fitted(self.distance, self.worth)
        return curve.peak if curve is not None else math.inf

    def behind(self) -> bool:
        """Whether the peak is well behind the last step."""
        return bool(self.distance) and self.distance[-1] > BEHIND * self.peak

    def best(self, share: float) -> int | None:
        """Which snapshot stood nearest to ``share`` of the way to the peak. None: the run ended before that."""
        wanted = share * self.peak
        if not self.places or not self.distance or self.distance[-1] <= wanted:
            return None
        return min(
            range(len(self.places)), key=lambda one: abs(math.log(max(self.places[one], 1e-6) / wanted))
        )
