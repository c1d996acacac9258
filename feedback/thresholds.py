"""The numbers of the loop that an alias may set for itself, with their bounds.

The workers take their defaults from the environment (``HEED_<NAME>``) and each alias's own from its record; the
gateway refuses what the workers could not work with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from feedback.errors import InvalidRecord

MOST = 2**31 - 1  # of anything that is counted


class Rating(BaseModel):
    """How raters are asked: by the gateway, so its settings have these, too."""

    annotation_overlap: int = Field(
        default=2, ge=1, le=100, description="raters who are asked about the same prompt"
    )
    annotation_seconds: float = Field(
        default=900.0,
        gt=0,
        le=30 * 86400.0,
        description="how long an offered prompt waits for its rater before another is asked",
    )


class Thresholds(Rating):
    """When a round starts, what counts in it, and what lets an adapter through."""

    annotation_prompts: int = Field(
        default=64,
        ge=0,
        le=500,
        description="newest prompts of which raters are asked, by what it would tell",
    )
    annotation_replies: int = Field(
        default=2, ge=2, le=5, description="replies to a prompt that raters are asked to compare, at most"
    )
    round_min_votes: int = Field(default=50, ge=1, le=MOST, description="new votes that start a round")
    round_pause_seconds: float = Field(
        default=1.5,
        ge=0,
        description="how long no further vote must have come before so many start one: it is to know of all that come "
        "at once",
    )
    round_patience_seconds: float = Field(
        default=30.0, ge=0, description="how long so many wait for that pause at most"
    )
    round_quiet_votes: int = Field(
        default=20, ge=1, le=MOST, description="new votes that start one when voting pauses"
    )
    round_quiet_seconds: float = Field(default=8.0, ge=0, description="how long a pause in voting is")
    round_overtaken: float = Field(
        default=1.0,
        ge=0,
        description="votes since a round began, over all before, at which it is begun anew with them; 0: never",
    )
    round_starts: int = Field(
        default=8,
        ge=1,
        le=MOST,
        description="how often one round is begun, when it fails or dies, before it is given up",
    )
    round_max_votes: int = Field(
        default=20_000, ge=100, le=MOST, description="newest standing votes in a batch"
    )
    subject_share: float = Field(
        default=0.05, gt=0, le=1, description="most of a batch's weight that one subject may have"
    )
    subject_floor: float = Field(
        default=5.0, ge=1, description="votes of one subject that always count whole"
    )
    prompt_share: float = Field(
        default=0.02, gt=0, le=1, description="most of a batch's weight that one rare prompt may have"
    )
    prompt_floor: float = Field(
        default=5.0, ge=1, description="votes on one rare prompt that always count whole"
    )
    prompt_subjects: int = Field(
        default=3, ge=1, le=MOST, description="subjects that speak about a prompt which is no longer rare"
    )
    agreement_prior: float = Field(
        default=8.0, gt=0, description="comparable votes of a rater before agreement with others tells much"
    )
    agreement_floor: float = Field(
        default=0.1, gt=0, le=1, description="what a vote of one who disagrees with everybody still counts"
    )
    holdout_share: float = Field(
        default=0.1, ge=0, lt=1, description="share of prompts whose votes only judge"
    )
    sft_min_corrections: int = Field(
        default=8, ge=1, le=MOST, description="corrections that call for fine-tuning"
    )
    reward_length: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="share that stays of what the reward owes to a reply's length; 0: it is taken out",
    )
    ppo_steps: int = Field(default=24, ge=1, le=MOST, description="steps of a PPO run, of 128 replies each")
    ppo_seconds: float = Field(default=60.0, gt=0, description="longest PPO run, seconds of wall clock")
    ppo_supervised: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="weight of the loss on demonstrations beside that of PPO, which keeps what was shown",
    )
    gate_prompts: int = Field(default=256, ge=16, le=MOST, description="prompts on which the gate compares")
    gate_min_kl: float = Field(
        default=0.2, ge=0, description="nats a reply from the base, at least: nearer it is the base"
    )
    gate_max_kl: float = Field(default=15.0, gt=0, description="nats a reply from the base, at most")
    gate_max_repetition: float = Field(default=0.1, ge=0, description="rise of repeated 4-grams, at most")
    gate_max_flattery: float = Field(
        default=0.1, ge=0, le=1, description="rise of the share of replies that praise the user, at most"
    )
    gate_max_refusals: float = Field(
        default=0.1, ge=0, le=1, description="rise of the share of replies that refuse to answer, at most"
    )
    gate_max_asking_back: float = Field(
        default=0.85,
        ge=0,
        le=1,
        description="rise of the share of replies that only ask back, at most; wide: votes may be for just that",
    )
    canary_max_unsafe: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="rise over the base of the share of unsafe replies of what is live, at most; the gate bears none",
    )
    gate_min_length: float = Field(
        default=0.15, gt=0, description="mean length over the served one's, at least"
    )
    gate_max_length: float = Field(
        default=4.0, gt=0, description="mean length over the served one's, at most"
    )
    gate_eos_margin: float = Field(
        default=0.02, ge=0, description="fall of the share of ended replies, at most"
    )
    review_stage_seconds: float = Field(default=8.0, ge=0, description="how long a stage lasts at least")
    review_ready_seconds: float = Field(
        default=120.0, gt=0, description="how long a candidate may take to be proved on every engine"
    )


def json_schema_of_thresholds() -> dict[str, Any]:
    """What ``check_thresholds`` takes; without the defaults, which are the workers' own."""
    schema = Thresholds.model_json_schema()
    for told in schema["properties"].values():
        del told["default"]
    return {**schema, "additionalProperties": False}


def check_thresholds(thresholds: Mapping[str, float]) -> None:
    """Raises InvalidRecord naming the first that is no threshold, no finite number, or out of its bounds."""
    for name, value in thresholds.items():
        if name not in Thresholds.model_fields:
            known = ", ".join(sorted(Thresholds.model_fields))
            raise InvalidRecord(f"thresholds.{name}", f"is not one of {known}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InvalidRecord(f"thresholds.{name}", f"is {value!r}, not a finite number")
    try:
        Thresholds.model_validate(dict(thresholds))
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRecord(f"thresholds.{first['loc'][0]}", first["msg"]) from error
