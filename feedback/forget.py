"""Forgetting a subject: out of the log, the indexes, the spool, the archive, and whatever else holds them.

A wish becomes a receipt in the registry; a worker carries it out store by store and notes when each is
clean. The receipt names the subject only until all are. What was learnt stays learnt: adapters and reward
models trained before keep their weights (they hold no ids), the receipt names those adapters, and batches on disk
are one of ``others``.

Nothing slips through between: the wish is marked in the log before anything is dropped, what comes later from before
it is refused there, and whoever copies events out of the log looks for marks once the copy stands (``archived``).
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feedback.archive import Archive
from feedback.errors import HeedError, StoreUnavailable
from feedback.events import Response
from feedback.protocols import Entry, EventLog, Registry
from feedback.spool import Spool
from feedback.texts import belongs

STORES = ("log", "journal", "spool", "archive")
Receipt = dict[str, Any]
Other = Callable[
    [str, float], object
]  # (subject, since when the archive holds nothing of it): drop what it said; False: not all gone yet


def request(registry: Registry, subject: str, now: float | None = None) -> Receipt:
    """Note the wish; everything the subject said or was served up to now is to go. Returns the receipt:
    ``{"id", "requested", "status": "pending" | "done", "stores": {name: Unix seconds or None}, "adapters": […]}``.
    """
    receipt: Receipt = {
        "id": f"fr-{secrets.token_hex(12)}",
        "subject": subject,
        "requested": time.time() if now is None else now,
        "status": "pending",
        "stores": dict.fromkeys(STORES),
        "adapters": [],
    }
    registry.put_receipt(receipt)
    return shown(receipt)


def shown(receipt: Mapping[str, Any]) -> Receipt:
    """The receipt as it may be told: without the subject."""
    private = ("subject", "upto", "rewriting")
    told = {name: value for name, value in receipt.items() if name not in private}
    return {"adapters": [], **told}


@dataclass(frozen=True)
class Stores:
    """Everything that holds what a subject said."""

    registry: Registry
    log: EventLog
    archive: Archive
    spool: Spool | None = None
    others: Mapping[str, Other] = field(default_factory=dict)
    learnt: Callable[[str], list[str]] = lambda _: []  # adapters that learnt from the subject


def carry_out(stores: Stores, seconds: float = float("inf")) -> list[Receipt]:
    """One pass over pending wishes; call it on a schedule until none is left. Returns those it touched. It begins with
    no further one after ``seconds``, and with them in any order, so that none waits for ever behind one that fails.

    Raises StoreUnavailable midway, and the first of other faults when every wish had its turn; the next pass goes on
    from what the receipts say. The archive counts as clean only when no worker still holds events it claimed before,
    since it may write them yet.
    """
    touched, faults, begun = [], list[Exception](), time.monotonic()
    pending = [receipt for receipt in stores.registry.receipts() if receipt["status"] == "pending"]
    for receipt in random.sample(pending, len(pending)):
        try:
            _pass(receipt, stores)
        except StoreUnavailable:
            raise
        except (HeedError, OSError) as error:
            faults.append(error)
        touched.append(shown(receipt))
        if time.monotonic() - begun >= seconds:
            break
    if faults:
        raise faults[0]
    return touched


def _pass(receipt: Receipt, stores: Stores) -> None:
    if "subject" in receipt:
        _clean(receipt, stores)
    if "subject" not in receipt:
        _journal(receipt, stores.log)
    stores.registry.put_receipt(receipt)


def _clean(receipt: Receipt, stores: Stores) -> None:
    """Every store but the journal; at the end the receipt names nobody any more."""
    subject, before, clean = receipt["subject"], receipt["requested"], receipt["stores"]
    if "upto" not in receipt:
        receipt["adapters"] = stores.learnt(subject)
        receipt["upto"] = stores.log.forget(subject, before)
        stores.registry.put_receipt(receipt)
    if not clean.get("spool"):
        if stores.spool is not None:
            stores.spool.forget(subject, before)
        clean["spool"] = time.time()
    if not clean.get("archive") and stores.log.passed(receipt["upto"]):
        _out_of_the_archive(subject, before, stores)
        clean["archive"] = time.time()
    if clean.get("archive"):
        for name, drop in stores.others.items():
            if not clean.get(name):
                gone = drop(subject, clean["archive"]) is not False
                clean[name] = time.time() if gone else None
        if not clean.get("log") and stores.log.gone(receipt["upto"]):
            clean["log"] = time.time()
    if all(when for name, when in clean.items() if name != "journal"):
        del receipt["subject"], receipt["upto"]
        stores.registry.put_receipt(receipt)


def _out_of_the_archive(subject: str, before: float, stores: Stores) -> None:
    """What the archive knows of, the log's indexes may hold yet: they list the newest responses only."""
    served = [
        entry.event.response_id
        for entry in stores.archive.of_subject(subject)
        if isinstance(entry.event, Response) and entry.event.time <= before
    ]
    if served:
        stores.log.forget(subject, before, served)
    stores.archive.forget(subject, before)


def _journal(receipt: Receipt, log: EventLog) -> None:
    """The server's own file of what was written remembers what was deleted, and this receipt as it was, until it is
    rewritten after all of that.
    """
    if not receipt.get("rewriting"):
        receipt["rewriting"] = log.rewrite()
    elif log.rewritten():
        receipt["stores"]["journal"] = time.time()
        receipt["status"] = "done"
        del receipt["rewriting"]


def archived(log: EventLog, archive: Archive, entries: Sequence[Entry]) -> None:
    """Write claimed entries into the archive, durable when it returns, and none of who asked to be forgotten.

    A wish that comes while this is written is seen after it, or its own pass over the archive comes later still.
    """
    marks = log.forgotten(_names(entries))
    kept = [entry for entry in entries if not _refused(entry, marks)]
    archive.write(kept)
    for subject, before in log.forgotten(_names(kept)).items():
        if any(_refused(entry, {subject: before}) for entry in kept):
            archive.forget(subject, before)


def _names(entries: Sequence[Entry]) -> set[str]:
    """Everybody whose words are in them."""
    authors = {entry.event.author for entry in entries if isinstance(entry.event, Response)}
    return {entry.event.subject for entry in entries} | {author for author in authors if author}


def _refused(entry: Entry, marks: Mapping[str, float]) -> bool:
    return any(belongs(entry.event, subject, before) for subject, before in marks.items())
