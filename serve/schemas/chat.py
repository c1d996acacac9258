"""What chats and comparisons are answered with; their bodies are in ``chat_body``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel


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
