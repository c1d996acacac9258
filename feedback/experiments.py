"""Arms and sticky assignment: who gets which arm is a pure function of the experiment and the subject."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

from feedback.errors import InvalidRecord
from feedback.protocols import Arm, ExperimentRecord

RAMP = (0.01, 0.05, 0.25, 0.5)  # a candidate's share of subjects, step by step
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def validate(record: ExperimentRecord) -> None:
    """Raises InvalidRecord naming the field."""
    names = [arm.name for arm in record.arms]
    for field, name in [("name", record.name), *(("arms.name", name) for name in names)]:
        if not _NAME.fullmatch(name):
            raise InvalidRecord(field, f"{name!r} must be 1 to 64 letters, digits, dots, dashes, underscores")
    if len(record.arms) < 2:
        raise InvalidRecord("arms", "an experiment needs at least two")
    if len(set(names)) != len(names):
        raise InvalidRecord("arms", "each needs a name of its own")
    if any(not 0 <= arm.share <= 1 for arm in record.arms):
        raise InvalidRecord("arms.share", "must lie in [0, 1]")
    if abs(sum(arm.share for arm in record.arms) - 1) > 1e-6:
        raise InvalidRecord("arms.share", "the shares must add up to 1")


def draw(salt: str, subject: str) -> float:
    """A number in [0, 1), uniform over subjects, the same for ever."""
    digest = hashlib.sha256(f"{salt}\0{subject}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign(record: ExperimentRecord, subject: str) -> tuple[Arm, float]:
    """The subject's arm and the probability with which it was drawn.

    Arms fill the unit interval from its far end, last arm first: as the last arm's share grows it takes
    in subjects and loses none, so a ramp is sticky.
    """
    u = draw(record.salt, subject)
    edge = 0.0
    for arm in reversed(record.arms):
        edge += arm.share
        if u < edge and arm.share > 0:
            return arm, arm.share
    widest = max(record.arms, key=lambda arm: arm.share)  # the shares' rounding left a gap at the far end
    return widest, widest.share


def ramped(record: ExperimentRecord, share: float) -> ExperimentRecord:
    """The record with ``share`` for its last arm, the candidate, and the others' shares scaled to the rest.

    Raises InvalidRecord unless 0 ≤ share ≤ 1.
    """
    if not 0 <= share <= 1:
        raise InvalidRecord("arms.share", f"{share} must lie in [0, 1]")
    *others, last = record.arms
    rest = sum(arm.share for arm in others)
    scaled = [arm.share * (1 - share) / rest if rest else (1 - share) / len(others) for arm in others]
    arms = [replace(arm, share=part) for arm, part in zip(others, scaled, strict=True)]
    return replace(record, arms=(*arms, replace(last, share=share)))


def next_share(record: ExperimentRecord) -> float | None:
    """The next step of the ramp for the last arm; None at its end."""
    return next((step for step in RAMP if step > record.arms[-1].share + 1e-9), None)


def shares(record: ExperimentRecord) -> dict[str, float]:
    """Every arm's propensity, as responses log it: ``Response.arm_shares``."""
    return {arm.name: arm.share for arm in record.arms}
