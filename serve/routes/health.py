"""Health, readiness, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from feedback.errors import StoreUnavailable
from feedback.held import counts_of
from serve.gateway import Gateway
from serve.reporting import gauges_of
from serve.routes.loop import WORKERS
from serve.routes.parts import Parts, json_answer

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz() -> Response:
    """The process lives."""
    return json_answer({"status": "ok"})


@router.get("/readyz")
async def readyz(parts: Parts) -> Response:
    """It can answer a chat. Redis is told of but not needed."""
    ready = parts.pool.any_up
    body = {
        "status": "ready" if ready else "the engine is warming up",
        "engines": {engine.name: "up" if engine.up else "down" for engine in parts.pool.engines},
        "store": "up" if parts.snapshot.store_up else "away",
    }
    return json_answer(body, 200 if ready else 503, None if ready else {"retry-after": "2"})


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request, parts: Parts) -> Response:
    """Prometheus' text format, with the gauges that the workers published."""
    if not parts.settings.metrics_open:
        parts.doorman.caller(request).need("ops")
    table = parts.table
    states = {one.id: one.state for one in sorted(table.adapters.values(), key=lambda one: one.created)[-64:]}
    return Response(parts.metrics.scrape(states, _published(parts)), media_type=CONTENT_TYPE_LATEST)


def _gauges(parts: Gateway, alias: str) -> dict[str, Any]:
    """An alias's gauges: those of its running experiment, its freshness, and what its workers published."""
    state = parts.registry.loop(alias)
    record = parts.table.running.get(alias)
    shown = gauges_of(record, parts.log.counts(record.name)) if record is not None else {}
    return {"freshness_seconds": state.get("freshness_seconds"), **shown, **(state.get("metrics") or {})}


def _held(counts: Mapping[tuple[str, str, str], int], alias: str) -> dict[str, Any]:
    """The alias's votes in quarantine."""
    rows = [
        {"labels": {"kind": kind, "verdict": verdict}, "value": number}
        for (of, kind, verdict), number in sorted(counts.items())
        if of == alias
    ]
    return {"quarantined_votes": rows}


def _schedule(parts: Gateway) -> dict[str, Any]:
    """When each task of the workers' schedule last ended well, and how long it took. Of no alias."""
    beats = sorted(parts.registry.loop(WORKERS).items())

    def told(figure: str) -> list[dict[str, Any]]:
        return [{"labels": {"task": task}, "value": beat[figure]} for task, beat in beats if figure in beat]

    return {
        "task_last_success_timestamp_seconds": told("last_success"),
        "task_duration_seconds": told("seconds"),
    }


def _published(parts: Gateway) -> dict[str, Any]:
    """Alias → the gauges of its workers; the backlog is measured here. Nothing while the store is away."""
    if not parts.snapshot.store_up:
        return {}
    try:
        backlog = parts.log.backlog()
        parts.metrics.unclaimed.set(backlog.events)
        parts.metrics.oldest_unclaimed.set(backlog.oldest_seconds)
        held = counts_of(parts.registry.quarantined())
        told = {alias: _gauges(parts, alias) | _held(held, alias) for alias in parts.table.aliases}
        return {"": _schedule(parts), **told}
    except StoreUnavailable:
        return {}
