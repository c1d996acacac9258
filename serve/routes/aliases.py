"""Aliases: what a product is called, what it is told, and what it is judged by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Response

from feedback.errors import Conflict, UnknownRecord
from feedback.protocols import DEFAULT_CRITERIA, AliasRecord
from feedback.thresholds import check_thresholds
from serve.auth import PRODUCT
from serve.gateway import Gateway
from serve.routes.parts import Parts, Settled, json_answer, listing
from serve.schemas.base import Listing
from serve.schemas.product import AliasBody, AliasPatch, AliasShown

router = APIRouter(tags=["aliases"], route_class=Settled)


def shown(record: AliasRecord) -> dict[str, Any]:
    """An alias as the API tells it."""
    return {
        "id": record.name,
        "object": "alias",
        "name": record.name,
        "guidelines": record.guidelines,
        "criteria": dict(record.criteria or DEFAULT_CRITERIA),
        "mode": record.mode,
        "thresholds": dict(record.thresholds or {}),
        "live": record.live,
        "previous": list(record.previous),
        "version": record.version,
    }


def resolve(parts: Gateway, name: str | None) -> AliasRecord:
    """The alias named, else the default one. Raises UnknownRecord."""
    return parts.registry.alias(name or parts.settings.default_alias)


@router.get("/v1/aliases", response_model=Listing, dependencies=[PRODUCT])
def aliases(parts: Parts) -> Response:
    """All aliases."""
    return json_answer(listing([shown(one) for one in parts.registry.aliases()]))


@router.post("/v1/aliases", status_code=201, response_model=AliasShown, dependencies=[PRODUCT])
def create(body: AliasBody, parts: Parts) -> Response:
    """A new alias; it serves the base until its first adapter is promoted."""
    fields = body.model_dump(exclude_unset=True, exclude={"version"})
    kept = {name: value for name, value in fields.items() if value is not None}
    check_thresholds(body.thresholds or {})
    return json_answer(shown(parts.registry.put_alias(AliasRecord(**kept))), 201)


@router.get("/v1/aliases/{name}", response_model=AliasShown, dependencies=[PRODUCT])
def one(name: str, parts: Parts) -> Response:
    """One alias."""
    return json_answer(shown(parts.registry.alias(name)))


@router.patch("/v1/aliases/{name}", response_model=AliasShown, dependencies=[PRODUCT])
def change(name: str, body: AliasPatch, parts: Parts) -> Response:
    """Change the fields given. New weights are in force at the next training round."""
    fields = body.model_dump(exclude_unset=True, exclude={"version"})
    kept = {field: value for field, value in fields.items() if value is not None}
    check_thresholds(body.thresholds or {})
    for last in (False, False, True):
        record = parts.registry.alias(name)
        if body.version is not None and body.version != record.version:
            raise Conflict(f"alias {name}", body.version, record.version)
        try:
            return json_answer(shown(parts.registry.put_alias(replace(record, **kept))))
        except Conflict:
            if last or body.version is not None:
                raise
    raise UnknownRecord("alias", name)
