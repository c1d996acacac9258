"""The rules of the registry, pure: which state follows which, what a promotion and a rollback change.

Both registries apply these to the records they read, and write the outcome in one atomic step.

::

    candidate ──► canary ──► live ◄──► retired
        │  ▲────────┘ │        │          │
        ▼             ▼        ▼          ▼
    rejected ◄────────┴────────┴──────────┘        rejected ──► retired, to clear its files
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from feedback.errors import Conflict, InvalidRecord, InvalidTransition
from feedback.protocols import AdapterRecord, AdapterState, AliasRecord, ExperimentRecord

EDGES: dict[AdapterState, frozenset[AdapterState]] = {
    "candidate": frozenset({"canary", "live", "rejected", "retired"}),
    "canary": frozenset({"live", "rejected", "retired", "candidate"}),
    "live": frozenset({"retired", "rejected"}),
    "retired": frozenset({"live", "canary", "rejected"}),
    "rejected": frozenset({"retired"}),
}
PREVIOUS_KEPT = 8  # former live adapters an alias remembers

Find = Callable[[str], AdapterRecord]  # raises UnknownRecord


def moved(record: AdapterRecord, to: AdapterState, reason: str) -> AdapterRecord:
    """The record in its new state, the change written into its history. Raises InvalidTransition."""
    cleared = record.state == "retired" and any(step.get("to") == "rejected" for step in record.history)
    if to not in EDGES[record.state] or (cleared and to in ("live", "canary")):
        raise InvalidTransition(record.id, "rejected" if cleared else record.state, to)
    step = {"time": time.time(), "from": record.state, "to": to, "reason": reason}
    return replace(
        record, state=to, reason=reason, history=(*record.history, step), version=record.version + 1
    )


def transitioned(record: AdapterRecord, to: AdapterState, reason: str) -> AdapterRecord:
    """A change of state by itself: never to or from ``live``, which only the alias's own change does."""
    if to == "live":
        raise InvalidTransition(record.id, record.state, "live except by promote")
    if record.state == "live":
        raise InvalidTransition(record.id, "live", f"{to} before another is promoted or it is rolled back")
    return moved(record, to, reason)


def promoted(
    alias: AliasRecord, adapter_id: str | None, reason: str, find: Find
) -> tuple[AliasRecord, list[AdapterRecord]]:
    """The alias with ``adapter_id`` (None: base) live, and the adapters that change with it; the alias
    itself and none when it is live already. Raises UnknownRecord, InvalidTransition, InvalidRecord.
    """
    if alias.live == adapter_id:
        return alias, []
    touched = []
    if adapter_id is not None:
        chosen = find(adapter_id)
        if chosen.alias != alias.name:
            raise InvalidRecord("adapter", f"{adapter_id} belongs to alias {chosen.alias}, not {alias.name}")
        touched.append(moved(chosen, "live", reason))
    if alias.live is not None:
        touched.append(moved(find(alias.live), "retired", f"followed by {adapter_id or 'base'}"))
    previous = (alias.live, *alias.previous)[:PREVIOUS_KEPT]
    return replace(alias, live=adapter_id, previous=previous, version=alias.version + 1), touched


def rolled_back(alias: AliasRecord, reason: str, find: Find) -> tuple[AliasRecord, list[AdapterRecord]]:
    """The alias back at the newest of ``previous`` that was not rejected since, and the adapters that change
    with it: the one left is rejected. Raises InvalidTransition when nothing was live before.
    """
    for place, back in enumerate(alias.previous):
        former = None if back is None else find(back)
        if back == alias.live or (former is not None and former.state != "retired"):
            continue
        touched = [] if alias.live is None else [moved(find(alias.live), "rejected", reason)]
        if former is not None:
            touched.append(moved(former, "live", f"rolled back to: {reason}"))
        rest = alias.previous[place + 1 :]
        return replace(alias, live=back, previous=rest, version=alias.version + 1), touched
    raise InvalidTransition(f"alias {alias.name}", "at its first adapter", "rolled back")


def stopped(record: ExperimentRecord, reason: str) -> ExperimentRecord:
    """The experiment, ended; the reason stands in its history."""
    step = {"time": time.time(), "what": "stopped", "reason": reason}
    return replace(record, status="stopped", history=(*record.history, step))


def ended_by_promotion(
    before: AliasRecord, after: AliasRecord, reason: str, experiments: Iterable[ExperimentRecord]
) -> list[ExperimentRecord]:
    """The loop's running experiments, as they end: their control is what was live before. People end their own."""
    if after == before:
        return []
    why = f"{after.live or 'base'} is live: {reason}"
    return _ended(why, (one for one in experiments if one.alias == after.name and one.owner == "loop"))


def ended_by_rollback(
    left: AliasRecord, reason: str, experiments: Iterable[ExperimentRecord]
) -> list[ExperimentRecord]:
    """Running experiments in which what was ``left`` would go on answering, as they end. The loop's are among them
    whatever their arms: the candidate was to be better than that.
    """
    mine = (one for one in experiments if one.alias == left.name)
    arms = (one for one in mine if one.owner == "loop" or any(arm.adapter == left.live for arm in one.arms))
    return _ended(f"rolled back: {reason}", arms)


def _ended(why: str, experiments: Iterable[ExperimentRecord]) -> list[ExperimentRecord]:
    running = (one for one in experiments if one.status == "running")
    return [replace(stopped(one, why), version=one.version + 1) for one in running]


def check_version(name: str, found: int, written: int) -> None:
    """Compare and set: raises Conflict unless the record was read at the version that stands (0: none)."""
    if found != written:
        raise Conflict(name, written, found)


def check_only_one_runs(record: ExperimentRecord, others: Iterable[ExperimentRecord]) -> None:
    """Raises Conflict when another experiment runs on the record's alias."""
    if record.status != "running":
        return
    running = [one for one in others if one.alias == record.alias and one.status == "running"]
    for other in running:
        if other.name != record.name:
            why = f"has to wait: {other.name} runs on alias {record.alias}, stop it first"
            raise Conflict(f"experiment {record.name}", 0, other.version, why)


def check_arms(record: ExperimentRecord, known: Callable[[str], AdapterRecord | None]) -> None:
    """Raises InvalidTransition when a running experiment has a rejected adapter as an arm."""
    if record.status != "running":
        return
    for adapter in (known(arm.adapter) for arm in record.arms if arm.adapter is not None):
        if adapter is not None and adapter.state == "rejected":
            raise InvalidTransition(adapter.id, "rejected", "an arm")


def in_order(records: Iterable[AdapterRecord], alias: str | None) -> Sequence[AdapterRecord]:
    """An alias's adapters (None: all), oldest first."""
    chosen = [record for record in records if alias is None or record.alias == alias]
    return sorted(chosen, key=lambda record: (record.created, record.id))
