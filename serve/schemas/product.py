"""Aliases, adapters, experiments and the loop."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, WithJsonSchema

from feedback.thresholds import json_schema_of_thresholds
from serve.schemas.base import Body, Criterion, Finite, Name, Unit, Version, Weight, at_most


class AliasPatch(Body):
    """Fields to change; absent ones stay."""

    guidelines: Annotated[str, Field(max_length=32_000)] | None = None
    criteria: Annotated[dict[Criterion, Weight], Field(max_length=32), at_most(32)] | None = None
    mode: Literal["auto", "approve", "off"] | None = None
    thresholds: (
        Annotated[
            dict[Criterion, Finite],
            Field(max_length=64),
            at_most(64),
            WithJsonSchema(json_schema_of_thresholds()),
        ]
        | None
    ) = None
    version: Version | None = Field(
        default=None, description="the version that was read; absent: the newest is changed"
    )


class AliasBody(AliasPatch):
    """A new alias."""

    name: Name


class AliasShown(BaseModel):
    """A product."""

    id: str
    object: Literal["alias"] = "alias"
    name: str
    guidelines: str
    criteria: dict[str, float]
    mode: str
    thresholds: dict[str, float]
    live: str | None
    previous: list[str | None]
    version: int


class AdapterShown(BaseModel):
    """One adapter with its lineage and figures."""

    id: str
    object: Literal["adapter"] = "adapter"
    alias: str
    state: Literal["candidate", "canary", "live", "retired", "rejected"]
    created: float
    base: str
    parent: str | None
    lineage: list[str] = Field(description="ancestors, nearest first")
    batches: list[str]
    reward_model: str | None
    training: dict[str, Any] | None
    gate: dict[str, Any] | None
    reason: str | None
    newest_vote: float | None
    history: list[dict[str, Any]]
    engines_ready: list[str]
    version: int


class ImportBody(Body):
    """A PEFT folder to take in."""

    path: Annotated[str, Field(min_length=1, max_length=4096)]
    alias: Name | None = None


class Reason(Body):
    """Why; kept in the history."""

    reason: Annotated[str, Field(max_length=500)] | None = None
    alias: Name | None = None


class ArmBody(Body):
    """One way of answering."""

    name: Name
    adapter: Annotated[str, Field(max_length=64)] | None = Field(default=None, description="absent: base")
    share: Unit
    sampling: Annotated[dict[str, Any], Field(max_length=16), at_most(16)] | None = Field(
        default=None, description="temperature, top_p, max_tokens, seed and penalties, in place of the chat's"
    )


class ExperimentBody(Body):
    """A new split of an alias's traffic."""

    name: Name
    alias: Name | None = None
    arms: Annotated[list[ArmBody], Field(min_length=2, max_length=16)]


class ExperimentPatch(Body):
    """Ramp (new shares by arm name) or stop."""

    shares: Annotated[dict[Name, Unit], Field(max_length=16), at_most(16)] | None = None
    status: Literal["running", "stopped"] | None = None
    reason: Annotated[str, Field(max_length=500)] | None = None
    version: Version | None = None


class ArmShown(BaseModel):
    """One arm."""

    name: str
    adapter: str | None
    share: float
    sampling: dict[str, float | int] | None


class ExperimentShown(BaseModel):
    """An experiment."""

    id: str
    object: Literal["experiment"] = "experiment"
    name: str
    alias: str
    status: str
    owner: str
    arms: list[ArmShown]
    created: float
    history: list[dict[str, Any]]
    version: int


class EngineBody(Body):
    """What an engine is to do."""

    draining: bool = Field(description="true: no new chats; those it has end as they may")


class TrainBody(Body):
    """Which alias to train now."""

    alias: Name | None = None


class CancelAnswer(BaseModel):
    """The request stands; the round ends before its next step of PPO, or its next part."""

    object: Literal["cancel_request"] = "cancel_request"
    alias: str
    cancel_requested: float
    step: str | None = Field(description="what the round is at; null while it rests after a failure")


class TrainAnswer(BaseModel):
    """The request stands; the worker takes it up."""

    object: Literal["training_request"] = "training_request"
    alias: str
    train_requested: float
