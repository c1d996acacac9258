"""Experiments: create, ramp, stop, report."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Response

from feedback.archive import Archive
from feedback.errors import Conflict, InvalidTransition
from feedback.experiments import validate
from feedback.protocols import Arm, ExperimentRecord
from serve.auth import PRODUCT, ProductCaller
from serve.chat_request import checked_sampling
from serve.criteria import by_criterion
from serve.errors import BadField, Clash
from serve.gateway import Gateway
from serve.reporting import report_of
from serve.routes.aliases import resolve
from serve.routes.parts import Parts, Settled, json_answer, listing
from serve.schemas.base import Listing
from serve.schemas.product import ArmBody, ExperimentBody, ExperimentPatch, ExperimentShown

router = APIRouter(tags=["experiments"], route_class=Settled)


def shown(record: ExperimentRecord) -> dict[str, Any]:
    """An experiment as the API tells it."""
    return {
        "id": record.name,
        "object": "experiment",
        "name": record.name,
        "alias": record.alias,
        "status": record.status,
        "owner": record.owner,
        "arms": [
            {
                "name": arm.name,
                "adapter": arm.adapter,
                "share": arm.share,
                "sampling": dict(arm.sampling) if arm.sampling else None,
            }
            for arm in record.arms
        ],
        "created": record.created,
        "history": [dict(entry) for entry in record.history],
        "version": record.version,
    }


@router.get("/v1/experiments", response_model=Listing, dependencies=[PRODUCT])
def experiments(parts: Parts, alias: str | None = None) -> Response:
    """All experiments, or an alias's, oldest first."""
    return json_answer(listing([shown(one) for one in parts.registry.experiments(alias)]))


@router.post("/v1/experiments", status_code=201, response_model=ExperimentShown)
def create(body: ExperimentBody, parts: Parts, caller: ProductCaller) -> Response:
    """Start one; at most one runs per alias."""
    alias = resolve(parts, body.alias).name
    arms = tuple(_arm(parts, alias, arm) for arm in body.arms)
    now = time.time()
    record = ExperimentRecord(
        name=body.name,
        alias=alias,
        arms=arms,
        salt=secrets.token_hex(8),
        created=now,
        history=({"time": now, "what": "created", "reason": f"by {caller.key_id}"},),
    )
    validate(record)
    return json_answer(shown(parts.registry.put_experiment(record)), 201)


@router.get("/v1/experiments/{name}", response_model=ExperimentShown, dependencies=[PRODUCT])
def one(name: str, parts: Parts) -> Response:
    """One experiment."""
    return json_answer(shown(parts.registry.experiment(name)))


@router.patch("/v1/experiments/{name}", response_model=ExperimentShown)
def change(name: str, body: ExperimentPatch, parts: Parts, caller: ProductCaller) -> Response:
    """Ramp (new shares) or stop. People who take over the loop's experiment own it from then on."""
    for last in (False, False, True):
        record = parts.registry.experiment(name)
        if body.version is not None and body.version != record.version:
            raise Conflict(f"experiment {name}", body.version, record.version)
        changed = _changed(record, body, caller.key_id)
        try:
            return json_answer(shown(parts.registry.put_experiment(changed)))
        except Conflict:
            if last or body.version is not None:
                raise
    raise Clash(f"experiment {name} keeps changing")


@router.get("/v1/experiments/{name}/report", dependencies=[PRODUCT])
def report(name: str, parts: Parts) -> Response:
    """Figures per arm that may be looked at at any time, and the verdict with its reason."""
    record = parts.registry.experiment(name)
    events = (entry.event for entry in Archive(parts.settings.archive_place).events())
    return json_answer(report_of(record, parts.log.counts(name), by_criterion(name, events)))


def _arm(parts: Gateway, alias: str, body: ArmBody) -> Arm:
    adapter = _known(parts, alias, body.adapter)
    try:
        sampling = checked_sampling(body.sampling or {}, parts.settings)
    except BadField as error:
        raise BadField(f"arms.sampling.{error.param}", error.why, status=422) from error
    return Arm(name=body.name, adapter=adapter, share=body.share, sampling=sampling or None)


def _known(parts: Gateway, alias: str, adapter: str | None) -> str | None:
    """The adapter id, when it may be shown to users. ``base`` is the base."""
    if adapter in {None, "base"}:
        return None
    record = parts.registry.adapter(str(adapter))
    if record.alias != alias:
        raise BadField("arms.adapter", f"{adapter} belongs to {record.alias}", status=422)
    if record.state == "rejected":
        raise InvalidTransition(record.id, "rejected", "an arm")
    return record.id


def _changed(record: ExperimentRecord, body: ExperimentPatch, who: str) -> ExperimentRecord:
    arms, what = record.arms, []
    if body.shares is not None:
        unknown = body.shares.keys() - {arm.name for arm in arms}
        if unknown:
            raise BadField(f"shares.{min(unknown)}", "is no arm of this experiment", status=422)
        arms = tuple(replace(arm, share=body.shares.get(arm.name, arm.share)) for arm in arms)
        what.append("ramped to " + ", ".join(f"{arm.name} {arm.share:g}" for arm in arms))
    if body.status is not None and body.status != record.status:
        what.append({"stopped": "stopped", "running": "started"}[body.status])
    step = {
        "time": time.time(),
        "what": "; ".join(what) or "looked at",
        "reason": body.reason or f"by {who}",
    }
    changed = replace(
        record,
        arms=arms,
        status=body.status or record.status,
        owner="people",
        history=(*record.history, step),
    )
    validate(changed)
    return changed
