"""Votes, comparisons, labels, reports, and what is held about somebody."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from serve.schemas.base import Body, Comment, Criterion, FromUser, Id, Reasons, Unit, at_most


class VoteBody(FromUser):
    """A thumb."""

    response_id: Id
    rating: Literal["up", "down"]
    reasons: Reasons = Field(default_factory=list)
    comment: Comment | None = None
    correction: Annotated[str, Field(max_length=32_000)] | None = None


class VoteAnswer(BaseModel):
    """What became of it; ``rating`` is null once taken back."""

    feedback_id: str
    response_id: str
    rating: Literal["up", "down"] | None
    status: Literal["stored", "spooled"]


class VoteSaid(BaseModel):
    """One thing the subject said."""

    rating: Literal["up", "down"] | None
    reasons: list[str] = []
    comment: str | None = None
    correction: str | None = None
    time: float


class VoteHeld(VoteSaid):
    """The standing vote and all that was said before."""

    feedback_id: str
    response_id: str
    history: list[VoteSaid]


_ONE_OF_TWO: dict[str, Any] = {  # a side of a comparison, or a ranking
    "oneOf": [
        {
            "required": ["comparison_id", "preferred"],
            "properties": {
                "comparison_id": {"type": "string"},
                "preferred": {"enum": [0, 1, "tie", "both_bad"]},
                "ranking": {"type": "null"},
            },
        },
        {
            "required": ["ranking"],
            "properties": {
                "ranking": {"type": "array", "minItems": 1},
                "preferred": {"type": "null"},
            },
        },
    ]
}


class ComparisonBody(FromUser):
    """A preference: ``preferred`` over the two sides of ``comparison_id``, or a ranking of responses to one
    prompt.
    """

    model_config = ConfigDict(json_schema_extra=_ONE_OF_TWO)
    comparison_id: Id | None = None
    preferred: Literal[0, 1, "tie", "both_bad"] | None = None
    ranking: (
        Annotated[list[Annotated[list[Id], Field(min_length=1, max_length=16)]], Field(max_length=16)] | None
    ) = None
    reasons: Reasons = Field(default_factory=list)
    comment: Comment | None = None

    @field_validator("preferred", mode="before")
    @classmethod
    def _a_side_is_an_integer(cls, value: Any) -> Any:
        """To pydantic true and 1.0 are 1; neither is a side."""
        if type(value) in (bool, float):
            raise ValueError("must be 0, 1, 'tie' or 'both_bad'")
        return value


class ComparisonAnswer(BaseModel):
    """What became of it."""

    feedback_id: str
    comparison_id: str | None
    preferred: Literal[0, 1, "tie", "both_bad"] | None
    ranking: list[list[str]]
    status: Literal["stored", "spooled"]


class LabelBody(FromUser):
    """Scores of one response by criterion."""

    response_id: Id
    labels: Annotated[dict[Criterion, Unit], Field(min_length=1, max_length=32), at_most(32)]


class LabelAnswer(BaseModel):
    """What became of it."""

    feedback_id: str
    response_id: str
    status: Literal["stored", "spooled"]


class ReportBody(FromUser):
    """Somebody says a response is unsafe."""

    response_id: Id
    kind: Criterion
    comment: Comment | None = None


class VerdictBody(Body):
    """What the product team decided about a report."""

    verdict: Literal["upheld", "dismissed"]


class ReportShown(BaseModel):
    """A report; ``verdict`` is null while it is open."""

    id: str
    object: Literal["report"] = "report"
    response_id: str
    kind: str
    comment: str | None = None
    verdict: Literal["upheld", "dismissed"] | None = None
    alias: str | None = None
    time: float
    messages: list[dict[str, str]] | None = (
        None  # in lists, for who settles it; null: not archived, or not stored
    )
    text: str | None = None
    status: Literal["stored", "spooled"] = "stored"


class RaterShown(BaseModel):
    """One rater; ``agreement`` and ``reliability`` are null while nothing was shared with others."""

    name: str
    items: int
    shared: int
    agreement: float | None
    reliability: float | None


class RatersShown(BaseModel):
    """Raters, the most reliable first; ``alpha`` is Krippendorff's, null while it cannot be told."""

    object: Literal["list"] = "list"
    data: list[RaterShown]
    alias: str
    alpha: dict[Literal["ordinal", "nominal"], float | None]
    things: int
    shared: int


class MeShown(BaseModel):
    """What is held about the caller's end user."""

    object: Literal["me"] = "me"
    subject: str
    since: float | None = None
    responses: list[dict[str, Any]]
    votes: list[dict[str, Any]]
    comparisons: list[dict[str, Any]]
    labels: list[dict[str, Any]]
    reports: list[dict[str, Any]]
    assignments: list[dict[str, Any]] = []


class ReceiptShown(BaseModel):
    """A wish to be forgotten; ``stores`` says when each was clean, in Unix seconds, ``adapters`` which had learnt from
    the subject's votes.
    """

    object: Literal["receipt"] = "receipt"
    id: str
    requested: float
    status: Literal["pending", "done"]
    stores: dict[str, float | None]
    adapters: list[str] = []
