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
            ended = outcome(client, loop, since)
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


def outcome(client: Client, loop: Mapping[str, Any], since: float) -> str | None:
    """How a round begun after ``since`` ended; None before that, and while its adapter is on trial."""
    last = loop.get("last_round")
    if not last or float(last["started"]) < since:
        return None
    if not last.get("adapter"):
        return f"the round made no adapter: {last.get('reason') or 'no reason given'}"
    adapter = client.get(f"/v1/adapters/{last['adapter']}")
    if adapter["state"] in SETTLED:
        return f"{adapter['id']} is {adapter['state']}: {adapter.get('reason') or 'no reason given'}"
    if adapter["state"] == "canary" and loop.get("mode") == "approve":
        return f"{adapter['id']} waits for approval: heed adapters promote {adapter['id']}"
    if loop.get("mode") == "off":
        return f"{adapter['id']} waits, since the loop is off: heed adapters promote {adapter['id']}"
    return None
