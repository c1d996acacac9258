"""/openapi.json, and what FastAPI cannot know of it: the chat's body, the bounds that settings set, the key."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from serve.schemas.chat_body import ChatBody, ComparedChat
from serve.settings import GatewaySettings

BODIES: tuple[type[BaseModel], ...] = (ChatBody, ComparedChat)


def describe(app: FastAPI, settings: GatewaySettings) -> dict[str, Any]:
    """The description, made at the first call."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        parts = made["components"]
        for model in BODIES:
            body = model.model_json_schema(ref_template="#/components/schemas/{model}")
            parts["schemas"].update(body.pop("$defs", {}))
            parts["schemas"][model.__name__] = _bounded(body, settings)
        _close(parts["schemas"])
        parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        made["security"] = [{"key": []}, {}]
        app.openapi_schema = made
    return app.openapi_schema


def _bounded(body: dict[str, Any], settings: GatewaySettings) -> dict[str, Any]:
    """The schema of a chat with the caps that are in force."""
    fields = body["properties"]
    fields["messages"]["maxItems"] = settings.max_messages
    for name in ("max_tokens", "max_completion_tokens"):
        fields[name]["anyOf"][0]["maximum"] = settings.max_tokens_cap
    return body


def _close(schema: Any) -> None:
    """Where the names of an object's fields are bounded, no others are taken; pydantic leaves that unsaid."""
    if isinstance(schema, list):
        for part in schema:
            _close(part)
    elif isinstance(schema, dict):
        if "patternProperties" in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            _close(part)
