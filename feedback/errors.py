"""Every error of the shared contract, drawn as a tree.

HeedError
├── SettingsError            a setting is missing or unusable: names it and the mend
├── InvalidId                a response or comparison id that is forged, foreign or junk (never told apart)
├── ExpiredId                a genuine id past its life
├── NotStored                a genuine id of a response that was asked not to be stored
├── StoreError
│   ├── StoreUnavailable     the store did not answer, is read-only, loading, or full: try again later
│   │   └── EventsRefused    it answers, and refuses some of the events: says which; the others are written
│   └── Conflict             a compare-and-set lost: read again and decide anew
├── SpoolFull                the local spool is at its size limit or the disk refused the write
├── UnknownRecord            no adapter, alias, experiment or key of that name
├── InvalidTransition        the state machine has no such edge
├── InvalidRecord            a record, file or field that does not parse; names the field
├── RedactionFailed          a text could not be redacted: none of it may be stored
└── LeaseLost                the fencing token is no longer the newest: stop, and write nothing
"""

from __future__ import annotations

from collections.abc import Sequence

from feedback.appended import Appended


class HeedError(Exception):
    """Base of all errors Heed raises on purpose; the message is fit to show to the person who caused it."""


class SettingsError(HeedError):
    """A setting is missing or unusable."""


class InvalidId(HeedError):
    """The id was not minted here for this subject and key."""


class ExpiredId(HeedError):
    """The id is genuine and its life is over."""


class NotStored(HeedError):
    """The id is genuine and its response was served with ``store: false``."""


class StoreError(HeedError):
    """The store did not do what was asked."""


class StoreUnavailable(StoreError):
    """The store is away, loading, read-only or full; nothing is known to have been written."""


class EventsRefused(StoreUnavailable):
    """The store answered each of a group of events, and some of them with an error that is of this event alone."""

    def __init__(self, why: str, appended: Sequence[Appended | None]) -> None:
        super().__init__(
            f"the store refused {sum(one is None for one in appended)} of {len(appended)} events: {why}"
        )
        self.why = why  # the error's code: no word of an event is in it
        self.appended = tuple(appended)  # what became of each, in order; None: refused


class Conflict(StoreError):
    """Someone else changed the record since it was read, or made it before (``expected`` is 0 then)."""

    def __init__(self, record: str, expected: int, found: int, why: str = "") -> None:
        stands = f"is at version {found}, not {expected}: read it again" if expected else "exists already"
        super().__init__(f"{record} {why or stands}")
        self.record, self.expected, self.found = record, expected, found


class SpoolFull(HeedError):
    """The local spool cannot take another event."""


class UnknownRecord(HeedError):
    """There is no record of that kind and name."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"there is no {kind} {name!r}")
        self.kind, self.name = kind, name


class InvalidTransition(HeedError):
    """The state machine has no edge between the two states."""

    def __init__(self, record: str, state: str, wanted: str) -> None:
        super().__init__(f"{record} is {state} and cannot become {wanted}")
        self.record, self.state, self.wanted = record, state, wanted


class InvalidRecord(HeedError):
    """A record or file does not parse."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field, self.why = field, why


class RedactionFailed(HeedError):
    """A text could not be redacted."""


class LeaseLost(HeedError):
    """Another holder has the lease now."""
