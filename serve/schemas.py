"""Bodies of requests and responses as pydantic models: they check the control plane's requests and document
all of them in /openapi.json. The chat's own body is checked by hand in ``chat_request`` and only
documented here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Criterion = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
Reasons = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=16)]
Comment = Annotated[str, Field(max_length=4000)]
Id = Annotated[str, Field(min_length=1, max_length=512)]
Identifier = Annotated[str, Field(min_length=1, max_length=256)]
Unit = Annotated[float, Field(ge=0, le=1)]


class Body(BaseModel):
    """A request body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class FromUser(Body):
    """A body that may name the end user, as the chat's did."""

    user: Identifier | None = None
    safety_identifier: Identifier | None = None


class VoteBody(FromUser):
    """A thumb."""

    response_id: Id
    rating: Literal["up", "down"]
    reasons: Reasons = []
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


class ComparisonBody(FromUser):
    """A preference: over the two sides of a comparison, or a ranking of responses to one prompt."""

    comparison_id: Id | None = None
    preferred: Literal[0, 1, "tie", "both_bad"] | None = None
    ranking: Annotated[list[Annotated[list[Id], Field(min_length=1)]], Field(max_length=16)] | None = None
    reasons: Reasons = []
    comment: Comment | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> ComparisonBody:
        if (self.preferred is None) == (self.ranking is None):
            raise ValueError("give either preferred (with comparison_id) or ranking")
        if self.preferred is not None and self.comparison_id is None:
            raise ValueError("preferred needs comparison_id")
        return self


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
    labels: Annotated[dict[Criterion, Unit], Field(min_length=1, max_length=32)]


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
    status: Literal["stored", "spooled"] = "stored"


class AliasPatch(Body):
    """Fields to change; absent ones stay."""

    guidelines: Annotated[str, Field(max_length=32_000)] | None = None
    criteria: Annotated[dict[Criterion, float], Field(max_length=32)] | None = None
    mode: Literal["auto", "approve", "off"] | None = None
    thresholds: Annotated[dict[Criterion, float], Field(max_length=64)] | None = None
    version: Annotated[int, Field(ge=0)] | None = Field(
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
    sampling: dict[str, float | int] | None = None


class ExperimentBody(Body):
    """A new split of an alias's traffic."""

    name: Name
    alias: Name | None = None
    arms: Annotated[list[ArmBody], Field(min_length=2, max_length=16)]


class ExperimentPatch(Body):
    """Ramp (new shares by arm name) or stop."""

    shares: dict[Name, Unit] | None = None
    status: Literal["running", "stopped"] | None = None
    reason: Annotated[str, Field(max_length=500)] | None = None
    version: Annotated[int, Field(ge=0)] | None = None


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


class TrainBody(Body):
    """Which alias to train now."""

    alias: Name | None = None


class TrainAnswer(BaseModel):
    """The request stands; the worker takes it up."""

    object: Literal["training_request"] = "training_request"
    alias: str
    train_requested: float


class MeShown(BaseModel):
    """What is held about the caller's end user."""

    object: Literal["me"] = "me"
    subject: str
    responses: list[dict[str, Any]]


class ReceiptShown(BaseModel):
    """A wish to be forgotten; ``stores`` says when each was clean, in Unix seconds."""

    object: Literal["receipt"] = "receipt"
    id: str
    requested: float
    status: Literal["pending", "done"]
    stores: dict[str, float | None]


class Listing(BaseModel):
    """Any list."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]


class ChatBody(BaseModel):
    """A chat in OpenAI's shape. Fields not listed here are refused."""

    model_config = ConfigDict(extra="forbid")
    model: str = Field(description="an alias; with scope product also alias:base or alias:<adapter id>")
    messages: list[dict[str, Any]] = Field(min_length=1, description="role and content; text parts only")
    stream: bool = False
    stream_options: dict[str, bool] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    n: Literal[1] = 1
    stop: str | list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    user: Identifier | None = None
    safety_identifier: Identifier | None = None
    store: bool = True
    metadata: dict[str, str] | None = None


class ChatAnswer(BaseModel):
    """A chat's answer in OpenAI's shape; with ``stream`` its chunks come as server-sent events."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: dict[str, Any]


class ComparisonChoice(BaseModel):
    """One side."""

    index: Literal[0, 1]
    response_id: str
    message: dict[str, Any]
    finish_reason: str | None


class ChatComparison(BaseModel):
    """Two responses to one prompt, blind."""

    id: str
    object: Literal["chat.comparison"] = "chat.comparison"
    created: int
    model: str
    choices: list[ComparisonChoice]


class ErrorDetail(BaseModel):
    """What is wrong, which field, and a code to branch on."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorAnswer(BaseModel):
    """OpenAI's error shape."""

    error: ErrorDetail
