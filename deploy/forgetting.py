"""Forgets a subject through the running Heed's workers, and waits a little for every store to be clean."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from deploy.store_access import open_store
from feedback import forget
from feedback.errors import InvalidRecord
from feedback.protocols import Registry

WAIT_SECONDS, POLL_SECONDS = 60.0, 0.5
PSEUDONYM = re.compile(r"s-[0-9a-f]{24}")


def forget_subject(subject: str, wait_seconds: float = WAIT_SECONDS) -> str:
    """Note the wish, and say what has become of it after a while. Raises InvalidRecord for what is no
    pseudonym, NotRunning, StoreUnavailable.
    """
    if not PSEUDONYM.fullmatch(subject):  # a user's own name would be "forgotten" and nothing gone
        raise InvalidRecord(
            "SUBJECT", f"{subject!r} is no pseudonym (s- and 24 hex digits): GET /v1/me as the user tells it"
        )
    registry = open_store().registry
    receipt = forget.request(registry, subject)
    deadline = time.monotonic() + wait_seconds
    while receipt["status"] == "pending" and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        receipt = standing(registry, receipt)
    return told(receipt)


def standing(registry: Registry, receipt: Mapping[str, Any]) -> dict[str, Any]:
    """The receipt as it stands now."""
    found = (one for one in registry.receipts() if one["id"] == receipt["id"])
    return dict(next(found, receipt))


def told(receipt: Mapping[str, Any]) -> str:
    """The receipt in words."""
    stores = receipt["stores"]
    left = [name for name, cleaned in stores.items() if not cleaned]
    adapters = receipt.get("adapters") or []
    learnt = f"; had learnt from its votes: {', '.join(adapters)}" if adapters else ""
    if receipt["status"] == "done":
        return f"forgotten: {', '.join(stores)} are clean (receipt {receipt['id']}){learnt}"
    return f"receipt {receipt['id']}: {', '.join(left)} not clean yet; the workers go on{learnt}"
