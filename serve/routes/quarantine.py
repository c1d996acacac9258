"""Votes that rounds keep out of training, and an operator's word on them."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any, Literal

from fastapi import APIRouter, Depends, Response

from feedback.held import HeldVote
from serve.auth import needs
from serve.routes.parts import Parts, json_answer, listing
from serve.schemas.base import Listing
from serve.schemas.quarantine import DecidedShown, DecisionBody

router = APIRouter(tags=["quarantine"])
OPERATOR = Depends(needs("ops", "product"))


@router.get("/v1/quarantine", response_model=Listing, dependencies=[OPERATOR])
def quarantine(parts: Parts, alias: str | None = None, state: Literal["open", "all"] = "open") -> Response:
    """Votes that nobody has decided on yet, or with ``state=all`` every one; the newest burst first."""
    held = parts.registry.quarantined(alias)
    return json_answer(listing([_shown(one) for one in held if state == "all" or one.verdict is None]))


@router.post("/v1/quarantine/{name}", response_model=DecidedShown, dependencies=[OPERATOR])
def decide(name: str, body: DecisionBody, parts: Parts) -> Response:
    """Release or confirm a vote, by its event id, or a whole burst by its own. What is released counts from the next
    batch, what is confirmed never does; a verdict may be changed.
    """
    decided = parts.registry.decide(name, body.verdict, time.time())
    return json_answer(
        {
            "id": name,
            "object": "quarantine.decision",
            "verdict": body.verdict,
            "votes": [one.event_id for one in decided],
        }
    )


def _shown(held: HeldVote) -> dict[str, Any]:
    return {"id": held.event_id, "object": "quarantine.vote", **asdict(held)}
