"""Reads a file of existing feedback into the log of the running Heed, and tells what it left out.

An import that was killed is begun again: ids are made from the content, so what was read before is known.
"""

from __future__ import annotations

import gzip
import itertools
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from deploy.imports import TOO_LONG, Origin, Skipped, events_of
from deploy.oasst_events import tree_events
from feedback.errors import InvalidRecord
from feedback.events import Comparison, Event, Label, Response
from feedback.protocols import EventLog
from feedback.redaction import Redaction, redaction_of

AT_ONCE = 200  # records appended in one round trip
SHOWN = 20  # lines and reasons that are told in the terminal
GZIP_MAGIC = b"\x1f\x8b"
LINE_BYTES = 32 * 1024 * 1024
"""A longer line is not held in memory, and is skipped."""


@dataclass
class Report:
    """What became of a file."""

    records: int = 0  # lines, or trees, that were read
    responses: int = 0  # new in the log, as are those that follow
    votes: int = 0  # thumbs
    comparisons: int = 0
    labels: int = 0
    repeats: int = 0  # events that were in the log before
    skipped: list[Skipped] = field(default_factory=list)

    def summary(self) -> str:
        said = f"{self.records} records: {self.votes} votes, {self.comparisons} comparisons and {self.labels}"
        said += f" labels on {self.responses} responses, {self.repeats} events known before"
        return f"{said}, {len(self.skipped)} left out"

    def as_dict(self) -> dict[str, Any]:
        """For a program: the counts, and every line that was left out with its reason."""
        return asdict(self)

    def reasons(self) -> list[tuple[str, int]]:
        """Why something was left out and how often, the most frequent first; names of messages left away."""
        return Counter(_kind(skipped.why) for skipped in self.skipped).most_common()


def _kind(why: str) -> str:
    """The reason without the name of the message it is about."""
    return why.partition(": ")[2] if why.startswith(("message ", "a reply to ")) else why


def import_feedback(file: Path, form: str, alias: str) -> Report:
    """Import into the running Heed. Raises NotRunning, UnknownRecord (alias), InvalidRecord (file)."""
    from deploy.store_access import open_store

    store = open_store()
    store.registry.alias(alias)
    redact = Redaction(redaction_of(store.settings.redact))
    return import_lines(lines_of(file), form, Origin(alias, time.time()), store.log, redact)


def write_report(report: Report, file: Path) -> None:
    """The report as JSON. Raises InvalidRecord when the file cannot be written."""
    try:
        file.write_bytes(orjson.dumps(report.as_dict(), option=orjson.OPT_INDENT_2) + b"\n")
    except OSError as error:
        raise InvalidRecord(f"--report {file}", f"cannot be written ({error.strerror or error})") from error


def import_lines(
    lines: Iterable[bytes], form: str, origin: Origin, log: EventLog, redact: Redaction | None = None
) -> Report:
    """Append the events of every readable line, a group of records at a time."""
    redact = redact or Redaction()
    report = Report()
    found = tree_events(lines, origin) if form == "oasst" else events_of(lines, form, origin)
    records = iter(found)
    while group := list(itertools.islice(records, AT_ONCE)):
        report.skipped += [item for item in group if isinstance(item, Skipped)]
        read = [item for item in group if not isinstance(item, Skipped)]
        report.records += len(read)
        append(log, [redact(event) for event in itertools.chain.from_iterable(read)], report)
    return report


def append(log: EventLog, events: list[Event], report: Report) -> None:
    """Write the events and count what was new."""
    for event, became in zip(events, log.append(events), strict=True):
        if became.status == "repeat":
            report.repeats += 1
        elif isinstance(event, Response):
            report.responses += 1
        elif isinstance(event, Comparison):
            report.comparisons += 1
        elif isinstance(event, Label):
            report.labels += 1
        else:
            report.votes += 1


def lines_of(file: Path) -> Iterator[bytes]:
    """The lines of a file, gzipped or not; TOO_LONG for one that is longer than LINE_BYTES. Raises InvalidRecord
    when it cannot be read.
    """
    try:
        with file.open("rb") as probe:
            zipped = probe.read(2) == GZIP_MAGIC
        with gzip.open(file, "rb") if zipped else file.open("rb") as source:
            yield from _bounded(source)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidRecord(str(file), f"cannot be read ({error})") from error


def _bounded(source: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    while line := source.readline(LINE_BYTES + 1):
        if len(line) <= LINE_BYTES or line.endswith(b"\n"):
            yield line
            continue
        while (rest := source.readline(LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        yield TOO_LONG
