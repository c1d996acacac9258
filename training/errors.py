"""The errors of the workers.

HeedError
├── BatchDiffers       a batch is not made again from its archive
├── BatchForgotten     somebody in a batch asked to be forgotten while it was learnt from
├── EngineFailed       an engine is away, hangs, or answers what it was not asked
├── NothingToLearn     a batch has too little to fit a reward model on
├── RoundCancelled     somebody asked the round to end
└── RoundOvertaken     many more votes have come than the round learns from
"""

from __future__ import annotations

from feedback.errors import HeedError


class BatchDiffers(HeedError):
    """Made anew, a batch has other bytes than it was written with."""

    def __init__(self, batch: str, sha256: str) -> None:
        super().__init__(
            f"batch {batch} is made otherwise from this archive (sha256 {sha256}): events have gone, or come late"
        )
        self.batch, self.sha256 = batch, sha256


class BatchForgotten(HeedError):
    """Somebody in the batch asked to be forgotten: the round is begun anew, on a batch without them."""


class EngineFailed(HeedError):
    """An engine could not be reached, was silent for too long, or answered what it was not asked, or ``status``."""

    def __init__(self, what: str, status: int | None = None) -> None:
        super().__init__(what)
        self.status = status


class NothingToLearn(HeedError):
    """There is no vote, or none that training may read."""


class RoundCancelled(HeedError):
    """Somebody asked the round to end."""


class RoundOvertaken(HeedError):
    """So many votes have come since its batch was made that the round is better begun anew with them."""

    def __init__(self, new: int) -> None:
        super().__init__(f"{new} votes have come since")
        self.new = new
