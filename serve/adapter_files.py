"""Deletes the files of adapters that nothing can need any more: names first, files last.

An adapter's files go when it was retired or rejected ``HEED_ADAPTER_KEEP_SECONDS`` ago, no alias would roll back to
it, no experiment shows it, and no engine lists it. The folder is first set aside under another name, so that nobody
can load it any more, and deleted a while later when still no engine lists it.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import time
from collections.abc import Collection
from itertools import chain
from pathlib import Path

from feedback.errors import StoreUnavailable
from feedback.protocols import AdapterRecord, Registry
from serve.routing import RouteTable
from serve.verification import ADAPTER_ID

logger = logging.getLogger(__name__)
LEASE, LEASE_SECONDS = "adapter-files", 60.0
ASIDE, ASIDE_SECONDS = ".gone-", 60.0  # longer than a load may take
DRAFTS, DRAFT_SECONDS = ".import-*", 3600.0  # what a gateway that died while it imported has left


def disposable(record: AdapterRecord, table: RouteTable, keep_seconds: float) -> bool:
    """Whether nothing can need its files: not a rollback, not an experiment, not somebody who looks back."""
    if record.state not in {"retired", "rejected"} or not ADAPTER_ID.fullmatch(record.id):
        return False
    left = float(record.history[-1]["time"]) if record.history else record.created
    aliases = table.aliases.values()
    back = {former for alias in aliases for former in alias.previous if record.state == "retired"}
    shown = {arm.adapter for experiment in table.running.values() for arm in experiment.arms}
    live = {alias.live for alias in aliases}
    return time.time() - left > keep_seconds and record.id not in back | shown | live


def sweep(root: Path, registry: Registry, table: RouteTable, listed: Collection[str], keep: float) -> None:
    """One round, by one gateway at a time. ``listed``: what this gateway's engines list; what others' have ready
    is asked of the registry. Reads and writes files: call it from a thread. Raises OSError.
    """
    holder = f"{socket.gethostname()}:{os.getpid()}"
    try:
        if registry.acquire(LEASE, holder, LEASE_SECONDS) is None:
            return
        try:
            _sweep(root, table, {*listed, *chain.from_iterable(registry.engines().values())}, keep)
        finally:
            registry.release(LEASE, holder)
    except StoreUnavailable:
        return


def _sweep(root: Path, table: RouteTable, needed: Collection[str], keep: float) -> None:
    for record in table.adapters.values():
        folder = root / record.id
        if disposable(record, table, keep) and record.id not in needed and folder.is_dir():
            folder.rename(root / f"{ASIDE}{record.id}")
            folder.with_name(f"{ASIDE}{record.id}").touch()
    for folder in root.glob(f"{ASIDE}*"):
        adapter = folder.name.removeprefix(ASIDE)
        if adapter in needed:
            folder.rename(root / adapter)
        elif _age(folder) > ASIDE_SECONDS:
            shutil.rmtree(folder)
            logger.info("the files of %s are deleted", adapter)
    for folder in root.glob(DRAFTS):
        if _age(folder) > DRAFT_SECONDS:
            shutil.rmtree(folder)


def _age(folder: Path) -> float:
    return time.time() - folder.stat().st_mtime
