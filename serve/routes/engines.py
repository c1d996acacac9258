"""The engines as this gateway sees them, and taking one out of service."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from serve.auth import OPS
from serve.engines import Engine
from serve.errors import NotFound
from serve.routes.parts import Parts, Settled, json_answer, listing
from serve.schemas.product import EngineBody

router = APIRouter(tags=["engines"], route_class=Settled)


@router.get("/v1/engines", dependencies=[OPS])
def engines(parts: Parts) -> Response:
    """All engines: whether they are up, what they answer now, and which adapters are proved on them."""
    return json_answer(listing([_shown(engine) for engine in parts.pool.engines]))


@router.patch("/v1/engines/{name}", dependencies=[OPS])
def change(name: str, body: EngineBody, parts: Parts) -> Response:
    """Drain an engine before its machine is stopped, or take it into service again. Every gateway follows."""
    engine = next((one for one in parts.pool.engines if one.name == name), None)
    if engine is None:
        raise NotFound(
            "there is no such engine: GET /v1/engines lists them", param="name", code="engine_not_found"
        )
    parts.registry.drain(name, body.draining)
    return json_answer({**_shown(engine), "draining": body.draining})


def _shown(engine: Engine) -> dict[str, Any]:
    return {
        "id": engine.name,
        "object": "engine",
        "up": engine.up,
        "open": engine.open,
        "draining": engine.draining,
        "in_flight": engine.load,
        "ready": sorted(engine.ready),
    }
