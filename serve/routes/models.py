"""GET /v1/models: the aliases; with scope product also what each can be pinned to."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from serve.auth import Caller, ChatCaller
from serve.engines import BASE
from serve.errors import NotFound
from serve.gateway import Gateway
from serve.routes.parts import Parts, json_answer, listing
from serve.schemas.base import Listing

router = APIRouter(tags=["models"])


@router.get("/v1/models", response_model=Listing)
def models(caller: ChatCaller, parts: Parts) -> Response:
    """What can be asked for."""
    return json_answer(listing([_card(name) for name in _names(parts, caller)]))


@router.get("/v1/models/{model}")
def model(model: str, caller: ChatCaller, parts: Parts) -> Response:
    """One of them."""
    if model not in _names(parts, caller):
        raise NotFound(f"the model {model!r} does not exist", param="model", code="model_not_found")
    return json_answer(_card(model))


def _names(parts: Gateway, caller: Caller) -> list[str]:
    table = parts.table
    names = sorted(table.aliases)
    if caller.has("product"):
        names += [f"{alias}:{BASE}" for alias in sorted(table.aliases)]
        ready = (one for one in table.adapters.values() if parts.pool.anywhere(one.id))
        names += [f"{one.alias}:{one.id}" for one in ready]
    return names


def _card(name: str) -> dict[str, Any]:
    """A model as OpenAI shows it; ``root`` is what vLLM's own clients read besides."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "heed", "root": name}
