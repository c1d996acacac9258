"""What training reads out of a batch: pairs, thumbs and demonstrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from feedback.events import Message

Outcome: TypeAlias = Literal["win", "tie", "both_bad"]  # win: a was preferred to b
Split: TypeAlias = Literal["train", "holdout"]
OVERALL = "overall"
"""The criterion of all that names none. Its weight is 1 unless the product team sets one."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two replies to one prompt and what was said of them."""

    messages: tuple[Message, ...]
    a: str
    b: str
    outcome: Outcome
    subject: str = ""
    weight: float = 1.0
    split: Split = "train"
    reasons: tuple[str, ...] = ()  # criteria of the alias that it is about; none: overall
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class Thumb:
    """One reply and whether it was liked."""

    messages: tuple[Message, ...]
    text: str
    up: bool
    subject: str = ""
    weight: float = 1.0
    split: Split = "train"
    reasons: tuple[str, ...] = ()  # as of a pair
    event_id: str = ""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What should have been said: a correction, or a reply that was well liked."""

    messages: tuple[Message, ...]
    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Examples:
    """Everything training reads, of one or several batches."""

    pairs: Sequence[Pair] = ()
    thumbs: Sequence[Thumb] = ()
    demonstrations: Sequence[Demonstration] = ()
    prompts: Sequence[tuple[Message, ...]] = field(default=())  # distinct prompts seen, oldest first
    criteria: Mapping[str, float] = field(default_factory=dict)  # criterion → weight; one not there weighs 1

    def of(self, split: Split) -> Examples:
        """Only that split's pairs and thumbs; demonstrations and prompts go with ``train``."""
        train = split == "train"
        return Examples(
            pairs=[pair for pair in self.pairs if pair.split == split],
            thumbs=[thumb for thumb in self.thumbs if thumb.split == split],
            demonstrations=self.demonstrations if train else (),
            prompts=self.prompts if train else (),
            criteria=self.criteria,
        )
