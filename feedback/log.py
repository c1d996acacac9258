"""The event log on a Redis-protocol server: one stream, and small indexes kept in the same atomic step.

One script writes one event: it refuses a repeat by event id, appends to the stream and updates the
indexes, all or nothing. A group of events is one pipeline: one round trip, one fsync.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import redis

from feedback import keys
from feedback.events import Comparison, Event, Label, Report, Response, Vote, decode, encode, kind_of
from feedback.protocols import Appended, ArmCounts, Backlog, Entry, ResponseSummary
from feedback.store import translated

_SCRIPT = (Path(__file__).parent / "append.lua").read_text()
SEEN_SECONDS = 7 * 86400
_NUMBERS = ("exposures", "up", "down", "wins", "compared", "errors", "completion_tokens", "duration_seconds")


def summary_of(event: Response) -> ResponseSummary:
    """What is remembered of a response, without its text."""
    return ResponseSummary(
        response_id=event.response_id,
        alias=event.alias,
        adapter=event.adapter,
        arm=event.arm,
        experiment=event.experiment,
        subject=event.subject,
        time=event.time,
        comparison_id=event.comparison_id,
    )


def said(event: Vote) -> tuple[Any, ...]:
    """What makes two votes the same saying."""
    return (event.rating, event.reasons, event.comment, event.correction)


class RedisEventLog:
    """See ``protocols.EventLog``."""

    def __init__(self, client: redis.Redis, response_life_seconds: float = 30 * 86400.0) -> None:
        self._client = client
        self._life = int(response_life_seconds)
        self._append = client.register_script(_SCRIPT)

    def append(self, events: Sequence[Event]) -> list[Appended]:
        if not events:
            return []
        with translated():
            try:
                replies = self._run(events)
            except redis.exceptions.NoScriptError:
                self._client.script_load(_SCRIPT)
                replies = self._run(events)
        return [
            Appended(event.event_id, reply.decode(), getattr(event, "feedback_id", None))
            for event, reply in zip(events, replies, strict=True)
        ]

    def _run(self, events: Sequence[Event]) -> list[Any]:
        with self._client.pipeline(transaction=False) as pipe:
            for event in events:
                pipe.evalsha(self._append.sha, 0, *self._arguments(event))
            replies = pipe.execute(raise_on_error=False)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return list(replies)

    def _arguments(self, event: Event) -> list[Any]:
        extra: dict[str, Any] = {"life": self._life, "seen": SEEN_SECONDS}
        if isinstance(event, Response):
            extra["summary"] = orjson.dumps(asdict(summary_of(event))).decode()
        elif isinstance(event, Vote):
            extra["said"] = orjson.dumps(said(event)).decode()
        return [kind_of(event), event.event_id, encode(event), orjson.dumps(extra)]

    def claim(self, consumer: str, count: int, idle_seconds: float = 60.0) -> list[Entry]:
        with translated():
            self._group()
            _, abandoned, *_ = self._client.xautoclaim(
                keys.EVENTS, keys.ARCHIVE_GROUP, consumer, int(idle_seconds * 1000), "0-0", count=count
            )
            entries = [entry for entry in abandoned if entry[1]]
            if len(entries) < count:
                fresh = self._client.xreadgroup(
                    keys.ARCHIVE_GROUP, consumer, {keys.EVENTS: ">"}, count=count - len(entries)
                )
                entries += [entry for stream in _streams(fresh) for entry in stream]
        return [Entry(position.decode(), decode(values[b"e"])) for position, values in entries]

    def _group(self) -> None:
        try:
            self._client.xgroup_create(keys.EVENTS, keys.ARCHIVE_GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def ack(self, positions: Sequence[str]) -> None:
        if positions:
            with translated():
                self._client.xack(keys.EVENTS, keys.ARCHIVE_GROUP, *positions)

    def trim(self) -> int:
        with translated():
            self._group()
            group = next(
                g for g in self._client.xinfo_groups(keys.EVENTS) if g["name"] == keys.ARCHIVE_GROUP.encode()
            )
            pending = self._client.xpending(keys.EVENTS, keys.ARCHIVE_GROUP)
            oldest = pending["min"] if pending["pending"] else _after(group["last-delivered-id"])
            return int(self._client.xtrim(keys.EVENTS, minid=oldest, approximate=False))

    def backlog(self) -> Backlog:
        with translated():
            self._group()
            self._client.xlen(keys.EVENTS)
            entries = self._client.xrange(keys.EVENTS, count=5000)
            group = next(
                g for g in self._client.xinfo_groups(keys.EVENTS) if g["name"] == keys.ARCHIVE_GROUP.encode()
            )
            pending = {row["message_id"] for row in self._client.xpending_range(keys.EVENTS, keys.ARCHIVE_GROUP, "-", "+", 5000)}
        last = _order(group["last-delivered-id"])
        waiting = [(p, v) for p, v in entries if _order(p) > last or p in pending]
        oldest = time.time() - _order(waiting[0][0])[0] / 1000 if waiting else 0.0
        votes = sum(values[b"k"] in (b"vote", b"comparison") for _, values in waiting)
        return Backlog(len(waiting), votes, max(0.0, oldest))

    def votes_total(self, alias: str) -> int:
        with translated():
            return int(self._client.hget(keys.VOTES_TOTAL, alias) or 0)

    def response(self, response_id: str) -> ResponseSummary | None:
        with translated():
            data = self._client.get(keys.response(response_id))
        return None if data is None else ResponseSummary(**orjson.loads(data))

    def latest(self, response_id: str, subject: str) -> Vote | None:
        history = self.history(response_id, subject)
        newest = max(history, key=lambda vote: vote.time, default=None)
        return None if newest is None or newest.rating is None else newest

    def history(self, response_id: str, subject: str) -> list[Vote]:
        from feedback.ids import feedback_id

        with translated():
            stored = self._client.lrange(keys.voices(feedback_id(response_id, subject)), 0, -1)
        return [event for event in map(decode, stored) if isinstance(event, Vote)]

    def responses_of(self, subject: str, limit: int = 100) -> list[str]:
        with translated():
            return [name.decode() for name in self._client.lrange(keys.subject(subject), 0, limit - 1)]

    def counts(self, experiment: str) -> dict[str, ArmCounts]:
        with translated():
            stored = self._client.hgetall(keys.counts(experiment))
            table: dict[str, dict[str, float]] = {}
            for field, value in stored.items():
                arm, _, name = field.decode().rpartition("|")
                table.setdefault(arm, {})[name] = float(value)
            for arm, row in table.items():
                row["subjects"] = self._client.pfcount(keys.exposed(experiment, arm))
        whole = {"exposures", "subjects", "up", "down", "compared", "errors", "completion_tokens"}
        return {
            arm: ArmCounts(**{name: int(v) if name in whole else v for name, v in row.items()})
            for arm, row in table.items()
        }

    def reports(self, open_only: bool = True) -> list[Event]:
        with translated():
            stored = self._client.hvals(keys.REPORTS)
        found = [event for event in map(decode, stored) if isinstance(event, Report)]
        return [event for event in found if event.verdict is None or not open_only]

    def ping(self) -> None:
        with translated():
            self._client.ping()


def _streams(reply: Any) -> list[Any]:
    """XREADGROUP's answer is a list of pairs under RESP2 and a map under RESP3."""
    if not reply:
        return []
    if isinstance(reply, dict):
        return [entries for values in reply.values() for entries in values]
    return [entries for _, entries in reply]


def _order(position: bytes | str) -> tuple[int, int]:
    text = position.decode() if isinstance(position, bytes) else position
    major, _, minor = text.partition("-")
    return int(major), int(minor or 0)


def _after(position: bytes | str) -> str:
    major, minor = _order(position)
    return f"{major}-{minor + 1}"
