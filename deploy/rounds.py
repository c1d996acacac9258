"""A training round asked for by hand, and the wait for its end, through the public HTTP API."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from deploy.client import Client
from deploy.errors import DeployError, RequestRefused

POLL_SECONDS = 1.0
SETTLED = ("live", "rejected", "retired")


def request_round(client: Client, alias: str) -> float:
    """Ask for a round; the Unix time of the request."""
    return float(client.post("/v1/loop/train", {"alias": alias})["train_requested"])


def wait_for_round(
    client: Client,
    alias: str,
    since: float,
    seconds: float,
    on_progress: Callable[[Mapping[str, Any]], None] | None = None,
) -> str:
    """Wait until the round asked for at ``since`` has ended, and say how it did.

    Raises DeployError when it has not ended after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            loop = client.get("/v1/loop", alias=alias)
            ended = outcome(client, loop, alias, since)
        except RequestRefused as error:
            if error.status < 500:
                raise
            loop, ended = {}, None
        if ended is not None:
            return ended
        if on_progress:
            on_progress(loop)
        time.sleep(POLL_SECONDS)
    raise DeployError(
        f"the round of {alias} has not ended after {seconds:.0f} s; `heed status` shows where it is"
    )


def outcome(client: Client, loop: Mapping[str, Any], alias: str, since: float) -> str | None:
    """How the round ended: an adapter that has settled, or the reason why there is none; None before that."""
    for adapter in reversed(client.get("/v1/adapters", alias=alias)["data"]):
        if float(adapter["created"]) >= since and adapter["state"] in SETTLED:
            return f"{adapter['id']} is {adapter['state']}: {adapter.get('reason') or 'no reason given'}"
    last = loop.get("last_round") or {}
    if float(last.get("ended") or 0.0) >= since and not last.get("adapter"):
        return f"the round made no adapter: {last.get('reason') or 'no reason given'}"
    return None
