"""What `heed status` tells: the processes, the adapters that are live, and how fresh they are."""

from __future__ import annotations

from typing import Any

from deploy.client import Client
from deploy.errors import DeployError, NotRunning
from deploy.probes import http_ok
from deploy.settings import LaunchSettings
from deploy.state import LaunchState, running_state


def gather(settings: LaunchSettings) -> dict[str, Any]:
    """``ready``, ``url``, ``processes``, ``live`` (alias → adapter id or "base"), ``freshness_seconds``, and
    ``refused_events``: what the store refuses of what was said. Null: unknown.

    Raises NotRunning when no launch holds the data directory.
    """
    state = running_state(settings.run_dir)
    client = Client(state.url, seconds=5.0)
    loop = loop_of(client)
    return {
        "ready": http_ok(f"{state.url}/readyz"),
        "url": state.url,
        "processes": [
            {
                "name": entry.name,
                "label": entry.label,
                "pid": entry.pid,
                "state": entry.state,
                "restarts": entry.restarts,
            }
            for entry in state.processes
        ],
        "live": live_adapters(client, state),
        "freshness_seconds": _number(loop.get("freshness_seconds")),
        "refused_events": loop.get("refused_events"),
    }


def live_adapters(client: Client, state: LaunchState) -> dict[str, str]:
    """Alias → what it serves; asked of the gateway, else of the store; empty when neither tells."""
    try:
        return {str(a["name"]): str(a.get("live") or "base") for a in client.get("/v1/aliases")["data"]}
    except (DeployError, KeyError):
        return _live_in_store(state)


def _live_in_store(state: LaunchState) -> dict[str, str]:
    from feedback.errors import StoreError
    from feedback.registry import RedisRegistry
    from feedback.store import connect

    try:
        return {a.name: a.live or "base" for a in RedisRegistry(connect(state.redis_url)).aliases()}
    except StoreError:
        return {}


def loop_of(client: Client) -> dict[str, Any]:
    """What the gateway tells of the loop; empty when it does not."""
    try:
        return dict(client.get("/v1/loop"))
    except (DeployError, NotRunning):
        return {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def as_table(found: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"{found['url']}  {'ready' if found['ready'] else 'not ready'}"]
    for entry in found["processes"]:
        restarts = f"  {entry['restarts']} restarts" if entry["restarts"] else ""
        lines.append(f"  {entry['label']:<15} {entry['state']:<10} {entry['pid'] or '-':>8}{restarts}")
    lines += [f"  {alias} serves {adapter}" for alias, adapter in found["live"].items()]
    if found["freshness_seconds"] is not None:
        lines.append(f"  freshness {found['freshness_seconds']:.0f} s")
    if found["refused_events"]:
        lines.append(
            f"  the store refuses {found['refused_events']} events: docs/operations.md says what to do"
        )
    return "\n".join(lines)
