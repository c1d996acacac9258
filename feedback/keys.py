"""Every Redis key: name, type, lifetime, who writes, who reads."""

from __future__ import annotations

P = "heed"

EVENTS = f"{P}:events"  # stream; until archived; gateway writes, workers read (group ARCHIVE)
ARCHIVE_GROUP = "archive"
REPORTS = f"{P}:reports"  # hash id → event; for ever; gateway
VOTES_TOTAL = f"{P}:votes"  # hash alias → int; for ever; gateway writes, workers read
GENERATION = f"{P}:generation"  # int; for ever; everyone
SEQUENCE = f"{P}:sequence"  # int; for ever; workers
ADAPTERS = f"{P}:adapters"  # hash id → JSON; for ever; workers and gateway
ALIASES = f"{P}:aliases"  # hash name → JSON; for ever; gateway and workers
EXPERIMENTS = f"{P}:experiments"  # hash name → JSON; for ever; gateway and workers
ACCESS = f"{P}:keys"  # hash id → JSON; for ever; command line


def seen(event_id: str) -> str:
    """String; a week; the log's own mark that an event was written."""
    return f"{P}:seen:{event_id}"


def response(response_id: str) -> str:
    """String, JSON summary; as long as votes are taken; log writes, gateway reads."""
    return f"{P}:response:{response_id}"


def voices(feedback_id: str) -> str:
    """List of events, oldest first; as long as votes are taken; log writes, gateway reads."""
    return f"{P}:voice:{feedback_id}"


def subject(name: str) -> str:
    """List of response ids, newest first; as long as votes are taken."""
    return f"{P}:subject:{name}"


def counts(experiment: str) -> str:
    """Hash "arm|field" → number; for ever; log writes, gateway and review read."""
    return f"{P}:counts:{experiment}"


def exposed(experiment: str, arm: str) -> str:
    """HyperLogLog of subjects; for ever; log writes."""
    return f"{P}:exposed:{experiment}:{arm}"


def engine(name: str) -> str:
    """String, JSON list of adapters; seconds; gateway writes, review reads."""
    return f"{P}:engine:{name}"


def loop(alias: str) -> str:
    """Hash field → JSON; for ever; workers write, gateway reads."""
    return f"{P}:loop:{alias}"


def lease(name: str) -> str:
    """String "holder|token"; seconds; workers."""
    return f"{P}:lease:{name}"


def fence(name: str) -> str:
    """Int, the newest token of a lease; for ever; workers."""
    return f"{P}:fence:{name}"
