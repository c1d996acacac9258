"""Forgetting a subject: out of the log, the indexes, the spool, the archive, and whatever else holds them.

A wish becomes a receipt in the registry; a worker carries it out store by store and notes when each is
clean. The receipt names the subject only until all are. What was learnt stays learnt: adapters and reward
models trained before keep their weights (they hold no ids), and batches on disk are one of ``others``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from feedback.archive import Archive
from feedback.protocols import EventLog, Registry
from feedback.spool import Spool

STORES = ("log", "spool", "archive")
Receipt = dict[str, Any]
Other = Callable[[str, float], object]  # (subject, before): drop what it said up to then


def request(registry: Registry, subject: str, now: float | None = None) -> Receipt:
    """Note the wish; everything the subject said or was served up to now is to go. Returns the receipt:
    ``{"id", "requested", "status": "pending" | "done", "stores": {name: Unix seconds or None}}``.
    """
    receipt: Receipt = {
        "id": f"fr-{secrets.token_hex(12)}",
        "subject": subject,
        "requested": time.time() if now is None else now,
        "status": "pending",
        "stores": dict.fromkeys(STORES),
    }
    registry.put_receipt(receipt)
    return shown(receipt)


def shown(receipt: Mapping[str, Any]) -> Receipt:
    """The receipt as it may be told: without the subject."""
    return {name: value for name, value in receipt.items() if name not in ("subject", "upto")}


def carry_out(
    registry: Registry,
    log: EventLog,
    archive: Archive,
    spool: Spool | None = None,
    others: Mapping[str, Other] | None = None,
) -> list[Receipt]:
    """One pass over all pending wishes; call it on a schedule until none is left. Returns those it touched.

    Raises StoreUnavailable or OSError midway; the next pass goes on from what the receipts say. The archive
    counts as clean only when no worker still holds events it claimed before, since it may write them yet.
    """
    touched = []
    for receipt in registry.receipts():
        if receipt["status"] == "pending":
            _pass(receipt, registry=registry, log=log, archive=archive, spool=spool, others=others or {})
            touched.append(shown(receipt))
    return touched


def _pass(
    receipt: Receipt,
    *,
    registry: Registry,
    log: EventLog,
    archive: Archive,
    spool: Spool | None,
    others: Mapping[str, Other],
) -> None:
    subject, before, stores = receipt["subject"], receipt["requested"], receipt["stores"]
    if not stores.get("log"):
        receipt["upto"] = log.forget(subject, before)
        stores["log"] = time.time()
        registry.put_receipt(receipt)
    if not stores.get("spool"):
        if spool is not None:
            spool.forget(subject, before)
        stores["spool"] = time.time()
    if not stores.get("archive") and log.passed(receipt["upto"]):
        archive.forget(subject, before)
        stores["archive"] = time.time()
    for name, drop in others.items():
        if not stores.get(name) and stores.get("archive"):
            drop(subject, before)
            stores[name] = time.time()
    if all(stores.values()):
        receipt["status"] = "done"
        del receipt["subject"], receipt["upto"]
    registry.put_receipt(receipt)
