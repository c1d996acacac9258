"""What a batch is made by: all that decides its bytes beside the archive. It stands in the batch's manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from feedback.protocols import DEFAULT_CRITERIA
from training.settings import TrainingSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The numbers are the settings of the same names."""

    alias: str
    criteria: Mapping[str, float]  # criterion → weight
    until: str | None  # position in the log up to which events count; None: the archive was empty
    round_max_votes: int
    holdout_share: float
    subject_share: float
    subject_floor: float
    prompt_share: float
    prompt_floor: float
    prompt_subjects: int
    agreement_prior: float
    agreement_floor: float

    @classmethod
    def of(
        cls, settings: TrainingSettings, alias: str, criteria: Mapping[str, float] | None, until: str | None
    ) -> Recipe:
        """By the settings as they are now; ``criteria`` None: the default ones."""
        own = {name: getattr(settings, name) for name in cls.__slots__ if hasattr(settings, name)}
        return cls(alias=alias, criteria=dict(criteria or DEFAULT_CRITERIA), until=until, **own)

    def as_dict(self) -> dict[str, Any]:
        """As it stands in a manifest; ``Recipe(**told)`` reads it back."""
        return asdict(self)
