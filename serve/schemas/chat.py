"""Chats and comparisons, for /openapi.json: ``chat_request`` checks their bodies by hand."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serve.schemas.base import Identifier


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
