"""Follows the file of signing keys, so that keys rotate while gateways run.

A new key verifies as soon as a gateway has read it and signs only from its time on, by which every gateway has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from feedback.errors import SettingsError
from feedback.ids import Secrets

logger = logging.getLogger(__name__)


def followed(path: Path, known: Secrets) -> Secrets:
    """The keys as the file has them now; ``known`` where it is gone, does not parse, or would change every subject."""
    try:
        found = Secrets.load(path) if path.exists() else known
    except (SettingsError, OSError) as error:
        logger.warning("the signing keys stay as they are: %s", error)
        return known
    if found.pseudonyms != known.pseudonyms:
        logger.error("the signing keys stay as they are: the last line of %s makes the subjects", path)
        return known
    return found


async def follow(path: Path, known: Secrets, take: Callable[[Secrets], None], seconds: float) -> None:
    """Hand every change to ``take``, as long as the gateway lives."""
    while True:
        await asyncio.sleep(seconds)
        found = await asyncio.to_thread(followed, path, known)
        if found != known:
            logger.info("there are %d signing keys now", len(found.keys))
            known = found
            take(found)
