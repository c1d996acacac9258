"""Reads a file of existing feedback into the log of the running Heed, and tells what it left out."""

from __future__ import annotations

import gzip
import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from deploy.imports import Origin, Skipped, events_of
from deploy.oasst import tree_events
from feedback.errors import InvalidRecord
from feedback.events import Event, Response
from feedback.protocols import EventLog

AT_ONCE = 200  # records appended in one round trip
GZIP_MAGIC = b"\x1f\x8b"


@dataclass
class Report:
    """What became of a file."""

    lines: int = 0  # records that were read
    responses: int = 0  # new in the log
    votes: int = 0  # votes and comparisons new in the log
    repeats: int = 0  # events that were in the log before
    skipped: list[Skipped] = field(default_factory=list)

    def summary(self) -> str:
        said = f"{self.lines} records: {self.votes} votes on {self.responses} responses"
        return f"{said}, {self.repeats} events known before, {len(self.skipped)} lines skipped"


def import_feedback(file: Path, form: str, alias: str) -> Report:
    """Import into the running Heed. Raises NotRunning, UnknownRecord (alias), InvalidRecord (file)."""
    from deploy.store_access import open_store

    store = open_store()
    store.registry.alias(alias)
    return import_lines(lines_of(file), form, Origin(alias, time.time()), store.log)


def import_lines(lines: Iterable[bytes], form: str, origin: Origin, log: EventLog) -> Report:
    """Append the events of every readable line, a group of records at a time."""
    report = Report()
    found = tree_events(lines, origin) if form == "oasst" else events_of(lines, form, origin)
    records = iter(found)
    while group := list(itertools.islice(records, AT_ONCE)):
        report.skipped += [item for item in group if isinstance(item, Skipped)]
        read = [item for item in group if not isinstance(item, Skipped)]
        report.lines += len(read)
        append(log, list(itertools.chain.from_iterable(read)), report)
    return report


def append(log: EventLog, events: list[Event], report: Report) -> None:
    """Write the events and count what was new."""
    for event, became in zip(events, log.append(events), strict=True):
        if became.status == "repeat":
            report.repeats += 1
        elif isinstance(event, Response):
            report.responses += 1
        else:
            report.votes += 1


def lines_of(file: Path) -> Iterator[bytes]:
    """The lines of a file, gzipped or not. Raises InvalidRecord when it cannot be read."""
    try:
        with file.open("rb") as probe:
            zipped = probe.read(2) == GZIP_MAGIC
        with gzip.open(file, "rb") if zipped else file.open("rb") as source:
            yield from source
    except (OSError, EOFError) as error:
        raise InvalidRecord(str(file), f"cannot be read ({error})") from error
