"""The loop: what it does now, and requests to train and to stop."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Response

from feedback.protocols import AdapterRecord
from serve.auth import PRODUCT
from serve.errors import Clash
from serve.routes.aliases import resolve
from serve.routes.parts import Parts, json_answer
from serve.schemas.product import CancelAnswer, TrainAnswer, TrainBody

router = APIRouter(tags=["loop"])
WORKERS = "_workers"  # where the workers leave their heartbeats, among the aliases' states

# Null until a worker has told.
WORKERS_TELL = (
    "freshness_seconds",
    "step",
    "progress",
    "last_batch",
    "last_reward_model",
    "last_round",
    "canaries",
    "canary_incidents",
)
GATE_CANARIES = frozenset({"flattery", "refusals", "asking_back", "safety", "canaries"})
"""The gate's checks of what no preference may teach."""


@router.get("/v1/loop", dependencies=[PRODUCT])
def loop(parts: Parts, alias: str | None = None) -> Response:
    """The pipeline now: waiting votes, the running step, the last batch, reward model and adapter, freshness, and the
    canaries: ``gate_canaries`` of the newest adapter that was at the gate, ``canaries`` of the last look at what is
    live, ``canary_incidents`` of those that saw one break.

    What the workers last wrote stands under its own names; ``metrics`` are their gauges.
    """
    record = resolve(parts, alias)
    backlog = parts.log.backlog()
    adapters = parts.registry.adapters(record.name)
    state: dict[str, Any] = {
        "object": "loop",
        "alias": record.name,
        "mode": record.mode,
        "live": record.live,
        "waiting": {
            "events": backlog.events,
            "votes": backlog.votes,
            "oldest_seconds": backlog.oldest_seconds,
        },
        "votes_total": parts.log.votes_total(record.name),
        "last_adapter": _brief(adapters[-1]) if adapters else None,
        "gate_canaries": _gate_canaries(adapters),
        "adapters": {
            state: _count(adapters, state) for state in ("candidate", "canary", "live", "retired", "rejected")
        },
        "engines": [
            {"name": engine.name, "up": engine.up, "in_flight": engine.load, "ready": sorted(engine.ready)}
            for engine in parts.pool.engines
        ],
        "spooled_events": parts.metrics.spooled(),
        "refused_events": parts.metrics.set_aside(),
        "workers": parts.registry.loop(WORKERS),
        **dict.fromkeys(WORKERS_TELL),
    }
    return json_answer({**state, **parts.registry.loop(record.name)})


@router.post("/v1/loop/train", status_code=202, response_model=TrainAnswer, dependencies=[PRODUCT])
def train(parts: Parts, body: TrainBody | None = None) -> Response:
    """Ask for a round now; the worker's schedule takes it up."""
    record = resolve(parts, body.alias if body else None)
    now = time.time()
    parts.registry.set_loop(record.name, {"train_requested": now})
    return json_answer({"object": "training_request", "alias": record.name, "train_requested": now}, 202)


@router.post("/v1/loop/cancel", status_code=202, response_model=CancelAnswer, dependencies=[PRODUCT])
def cancel(parts: Parts, body: TrainBody | None = None) -> Response:
    """Ask the round that runs, or rests after a failure, to end; it says what it did in ``last_round``.

    409 where there is none.
    """
    record = resolve(parts, body.alias if body else None)
    state = parts.registry.loop(record.name)
    if not state.get("starts"):
        raise Clash(f"no round of {record.name} runs")
    now = time.time()
    parts.registry.set_loop(record.name, {"cancel_requested": now})
    told = {
        "object": "cancel_request",
        "alias": record.name,
        "cancel_requested": now,
        "step": state.get("step"),
    }
    return json_answer(told, 202)


def _brief(record: AdapterRecord) -> dict[str, Any]:
    return {"id": record.id, "state": record.state, "created": record.created, "reason": record.reason}


def _gate_canaries(adapters: list[AdapterRecord]) -> dict[str, Any] | None:
    """What they found of the newest that was at the gate; None: none was."""
    for record in reversed(adapters):
        if record.gate:
            checks = [one for one in record.gate.get("checks", ()) if one.get("check") in GATE_CANARIES]
            return {"adapter": record.id, "time": record.created, "checks": checks}
    return None


def _count(adapters: list[AdapterRecord], state: str) -> int:
    return sum(record.state == state for record in adapters)
