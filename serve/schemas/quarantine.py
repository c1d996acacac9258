"""Votes in quarantine."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from serve.schemas.base import Body


class DecisionBody(Body):
    """What an operator decided about a vote or a burst."""

    verdict: Literal["released", "confirmed"]


class DecidedShown(BaseModel):
    """The votes that a verdict settled."""

    id: str
    object: Literal["quarantine.decision"] = "quarantine.decision"
    verdict: Literal["released", "confirmed"]
    votes: list[str] = Field(description="event ids")
