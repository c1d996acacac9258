"""Adapters: lineage and figures, import, promote, retire; and the rollback of an alias."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import APIRouter, Response

from feedback.protocols import AdapterRecord
from serve.auth import PRODUCT, ProductCaller
from serve.engines import BASE
from serve.errors import BadField, Clash
from serve.importing import take_in
from serve.routes.aliases import resolve
from serve.routes.aliases import shown as alias_shown
from serve.routes.parts import Parts, Settled, json_answer, listing
from serve.schemas.base import Listing
from serve.schemas.product import AdapterShown, AliasShown, ImportBody, Reason

router = APIRouter(tags=["adapters"], route_class=Settled)


def shown(
    record: AdapterRecord, every: Mapping[str, AdapterRecord], engines: Mapping[str, Iterable[str]]
) -> dict[str, Any]:
    """An adapter as the API tells it."""
    return {
        "id": record.id,
        "object": "adapter",
        "alias": record.alias,
        "state": record.state,
        "created": record.created,
        "base": record.base,
        "parent": record.parent,
        "lineage": lineage(record, every),
        "batches": list(record.batches),
        "reward_model": record.reward_model,
        "training": dict(record.training) if record.training is not None else None,
        "gate": dict(record.gate) if record.gate is not None else None,
        "reason": record.reason,
        "newest_vote": record.newest_vote,
        "history": [dict(entry) for entry in record.history],
        "engines_ready": sorted(name for name, ready in engines.items() if record.id in ready),
        "version": record.version,
    }


def lineage(record: AdapterRecord, every: Mapping[str, AdapterRecord]) -> list[str]:
    """Ancestors, nearest first."""
    line: list[str] = []
    parent = record.parent
    while parent is not None and parent not in line:
        line.append(parent)
        parent = every[parent].parent if parent in every else None
    return line


@router.get("/v1/adapters", response_model=Listing, dependencies=[PRODUCT])
def adapters(parts: Parts, alias: str | None = None) -> Response:
    """All adapters, or an alias's, oldest first."""
    records = parts.registry.adapters(alias)
    every = {record.id: record for record in records}
    engines = parts.registry.engines()
    return json_answer(listing([shown(record, every, engines) for record in records]))


@router.get("/v1/adapters/{adapter_id}", response_model=AdapterShown, dependencies=[PRODUCT])
def one(adapter_id: str, parts: Parts) -> Response:
    """One adapter."""
    record = parts.registry.adapter(adapter_id)
    every = {one.id: one for one in parts.registry.adapters(record.alias)}
    return json_answer(shown(record, every, parts.registry.engines()))


@router.post("/v1/adapters", status_code=201, response_model=AdapterShown, dependencies=[PRODUCT])
async def take(body: ImportBody, parts: Parts) -> Response:
    """Import a PEFT folder that lies in an allowed directory; it becomes a candidate."""
    record = await take_in(parts, body.path, body.alias)
    return json_answer(shown(record, {}, {}), 201)


@router.post("/v1/adapters/{adapter_id}/promote", response_model=AliasShown)
def promote(adapter_id: str, parts: Parts, caller: ProductCaller, body: Reason | None = None) -> Response:
    """Make it live. Until it is proved on an engine, what was live goes on answering."""
    body = body or Reason()
    reason = body.reason or f"promoted by {caller.key_id}"
    if adapter_id == BASE:
        record = parts.registry.promote(resolve(parts, body.alias).name, None, reason)
        return json_answer(alias_shown(record))
    adapter = parts.registry.adapter(adapter_id)
    if adapter.state == "retired" and not (parts.settings.adapters_dir / adapter_id).is_dir():
        raise Clash(f"the files of {adapter_id} are deleted: import it anew to promote it")
    if body.alias not in {None, adapter.alias}:
        raise BadField("alias", f"{adapter_id} belongs to {adapter.alias}", status=422)
    return json_answer(alias_shown(parts.registry.promote(adapter.alias, adapter_id, reason)))


@router.post("/v1/adapters/{adapter_id}/retire", response_model=AdapterShown)
def retire(adapter_id: str, parts: Parts, caller: ProductCaller, body: Reason | None = None) -> Response:
    """Take it out of the running. What is live is left by promoting another or by rolling back."""
    reason = (body.reason if body else None) or f"retired by {caller.key_id}"
    record = parts.registry.transition(adapter_id, "retired", reason)
    return json_answer(shown(record, {}, parts.registry.engines()))


@router.post("/v1/rollback", response_model=AliasShown)
def roll_back(parts: Parts, caller: ProductCaller, body: Reason | None = None) -> Response:
    """Back to what was live before. What an experiment would go on serving of the one that is left ends with it."""
    body = body or Reason()
    record = resolve(parts, body.alias)
    reason = body.reason or f"rolled back by {caller.key_id}"
    return json_answer(alias_shown(parts.registry.rollback(record.name, reason)))
