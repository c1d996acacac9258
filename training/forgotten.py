"""Whether a batch may still be learnt from: nobody in it has asked to be forgotten since it was made."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from feedback.protocols import EventLog
from training.errors import BatchForgotten


@dataclass(frozen=True)
class Forgotten:
    """Looks whenever it is called. A wish of before ``since`` (Unix seconds) was known when the batch was made."""

    log: EventLog
    marks: Collection[str]  # of everybody in the batch (``feedback.lineage``)
    since: float
    folders: Collection[Path]  # of the batch and what was made of it

    def __call__(self) -> None:
        """Raises BatchForgotten, with the folders removed; StoreUnavailable."""
        if any(when > self.since for when in self.log.wishes(self.marks).values()):
            for folder in self.folders:
                shutil.rmtree(folder, ignore_errors=True)
            raise BatchForgotten("somebody in the batch asked to be forgotten")
