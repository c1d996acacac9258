"""Which votes speak for which criterion, and what each criterion counts in the reward.

The product team weighs criteria, and the reward is the weighted sum of what a head for each criterion scores. A vote
that names criteria speaks for these alone, in equal parts; any other speaks for ``overall``.

    enough    a criterion has a head of its own when enough was said of it, where no subject counts for more than a
              third: one voice cannot make a head, nor own it
    too few   else its votes stand among overall's, each as heavy as its criterion, and overall counts in the sum what
              its votes weigh on average; with no head but overall's that is one fit of votes that weigh what they
              name
    prior     a head is pulled to overall's weights as overall's to zero, so that of what its own votes leave open it
              says what overall says (Evgeniou & Pontil 2004)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.examples import OVERALL, Examples, Pair, Thumb


@dataclass(frozen=True)
class Part:
    """What one head is fitted on: of each vote, the share of its weight. The weights of all parts sum to 1."""

    weight: float
    pairs: Tensor  # (pairs,)
    thumbs: Tensor  # (thumbs,)


def named(examples: Examples, enough: float) -> tuple[str, ...]:
    """Criteria of which ``enough`` was said for a head of their own, by name; ``overall`` goes without saying."""
    names = {name for vote in _votes(examples) for name in vote.reasons} - {OVERALL}
    return tuple(
        name for name in sorted(names) if sum(at_most_a_third(_said(examples, name)).values()) >= enough
    )


def parts(examples: Examples, names: Sequence[str], *, held: bool = True) -> dict[str, Part]:
    """Overall's part and then that of each of ``names``. ``held`` False: subjects count as much as they say."""
    told = {name: _own(examples, name, held) for name in names}
    overall, mean = _rest(examples, set(names))
    counts = {OVERALL: mean, **{name: examples.criteria.get(name, 1.0) for name in names}}
    whole = sum(counts.values()) or 1.0
    pairs = len(examples.pairs)
    return {
        name: Part(counts[name] / whole, torch.tensor(shares[:pairs]), torch.tensor(shares[pairs:]))
        for name, shares in {OVERALL: overall, **told}.items()
    }


def heads_of(reasons: Sequence[str], names: Iterable[str]) -> tuple[str, ...]:
    """Of ``names`` those that a vote with these reasons speaks for; none: it speaks for overall alone."""
    return tuple(name for name in names if name in reasons)


def at_most_a_third(weights: Mapping[str, float]) -> dict[str, float]:
    """The same with the heaviest two brought down until nobody has more than a third of what then is left of all."""
    order = sorted(weights, key=lambda name: (-weights[name], name))
    first, second = (weights[name] for name in (order + order)[:2]) if order else (0.0, 0.0)
    if len(order) < 3:
        return dict.fromkeys(order, 0.0)
    rest = sum(weights.values()) - first - second
    second = min(second, rest)
    return {**weights, order[0]: min(first, (second + rest) / 2), order[1]: second}


def _votes(examples: Examples) -> Iterator[Pair | Thumb]:
    yield from examples.pairs
    yield from examples.thumbs


def _said(examples: Examples, name: str) -> dict[str, float]:
    """Subject → weight of what it said of a criterion."""
    told: defaultdict[str, float] = defaultdict(float)
    for vote in _votes(examples):
        if name in vote.reasons:
            told[vote.subject] += vote.weight / len(vote.reasons)
    return told


def _own(examples: Examples, name: str, held: bool) -> list[float]:
    """Of each vote the share that speaks for a criterion, brought down where its subject says too much of it."""
    said = _said(examples, name)
    kept = at_most_a_third(said) if held else said
    return [
        kept[vote.subject] / said[vote.subject] / len(vote.reasons) if name in vote.reasons else 0.0
        for vote in _votes(examples)
    ]


def _rest(examples: Examples, names: set[str]) -> tuple[list[float], float]:
    """Of each vote the share that speaks for overall, as heavy as what it names, and the mean of what they name."""
    shares, said, weighed = [], 0.0, 0.0
    for vote in _votes(examples):
        about = vote.reasons or (OVERALL,)
        left = [examples.criteria.get(name, 1.0) for name in about if name not in names]
        shares.append(sum(left) / len(about))
        said += vote.weight * len(left) / len(about)
        weighed += vote.weight * shares[-1]
    if not weighed:
        return shares, 0.0
    mean = weighed / said
    return [share / mean for share in shares], mean
