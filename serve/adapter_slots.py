"""Which adapters an engine should hold, and which goes first when it has no place left: pure functions.

What traffic is routed to, all gateways see alike. What is asked for by name each brings for itself, and none unloads
what another was asked for just now: so gateways that share engines do not fight over places.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from feedback.protocols import AdapterRecord
from serve.routing import RouteTable

KEPT_FOR_ROLLBACK = 2  # former live adapters per alias that stay loaded
ASKED_SECONDS = 60.0  # what was asked for within is worth a place

Used = Mapping[str, float]  # adapter → Unix seconds when it was last asked for, by any gateway


def wanted(table: RouteTable, used: Used, asked: Sequence[str], places: int) -> list[str]:
    """Adapters that should be ready, most needed first, at most ``places``: what traffic is routed to, the last
    used first; where a rollback would go; each alias's newest candidate; what this gateway is ``asked`` for by
    name, in that order. A quarter of the places is kept for the last kind. What is left goes to other candidates,
    newest first.
    """
    newest = sorted(table.adapters.values(), key=lambda record: record.created, reverse=True)
    routed = sorted(_routed(table), key=lambda adapter: -used.get(adapter, 0.0))
    first = [*routed, *_for_rollback(table), *_candidates(newest)]
    rest = [
        record.id for state in ("live", "canary", "candidate") for record in newest if record.state == state
    ]
    kept = list(dict.fromkeys(_servable(table, first)))[: places - max(1, places // 4)]
    return list(dict.fromkeys([*kept, *_servable(table, [*asked, *first, *rest])]))[:places]


def servable(record: AdapterRecord | None) -> bool:
    """Whether an engine may hold it: it is known, and was not rejected."""
    return record is not None and record.state != "rejected"


def _servable(table: RouteTable, adapters: Iterable[str | None]) -> Iterator[str]:
    return (one for one in adapters if one is not None and servable(table.adapters.get(one)))


def _routed(table: RouteTable) -> list[str]:
    live = [alias.live for alias in table.aliases.values()]
    arms = [arm.adapter for experiment in table.running.values() for arm in experiment.arms]
    return [adapter for adapter in (*live, *arms) if adapter is not None]


def _for_rollback(table: RouteTable) -> Iterator[str]:
    for alias in table.aliases.values():
        yield from islice(_servable(table, alias.previous), KEPT_FOR_ROLLBACK)


def _candidates(newest: Iterable[AdapterRecord]) -> list[str]:
    by_alias: dict[str, str] = {}
    for record in newest:
        if record.state in {"canary", "candidate"}:
            by_alias.setdefault(record.alias, record.id)
    return list(by_alias.values())


def leaving(table: RouteTable, held: Collection[str], want: Collection[str], used: Used) -> list[str]:
    """Of the adapters an engine holds, those that nothing can need: rejected, or retired and asked for no more."""
    since = time.time() - ASKED_SECONDS
    gone = {one for one in held if one in table.adapters and table.adapters[one].state == "rejected"}
    retired = {one for one in held if one in table.adapters and table.adapters[one].state == "retired"}
    return sorted(gone | {one for one in retired - set(want) if used.get(one, 0.0) < since})


def first_to_go(
    table: RouteTable, held: Collection[str], want: Collection[str], used: Used, busy: Collection[str]
) -> str | None:
    """The least recently used adapter that may be unloaded to make a place: one of ours, neither wanted nor busy.
    None when there is none.
    """
    able = [one for one in held if one in table.adapters and one not in want and one not in busy]
    return min(able, key=lambda one: (used.get(one, 0.0), table.adapters[one].created), default=None)
