"""The event log on a Redis-protocol server: one stream, and small indexes kept in the same atomic step.

One script writes events: of each it refuses a repeat by event id, appends to the stream and updates the
indexes. A group of events is one round trip, one fsync; ``flushed`` sees to it that what the server has answered
is on its disk.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import orjson
import redis

from feedback import keys
from feedback.appended import Appended
from feedback.erasing import FILLER, Eraser, decoded, entries_with, order, response_ids
from feedback.errors import EventsRefused, InvalidRecord
from feedback.events import Event, Report, Vote, decode, encode, kind_of
from feedback.facts import FORGOTTEN_SECONDS, arm_counts, facts_of, mark_of
from feedback.flushed import Flushed
from feedback.ids import feedback_id
from feedback.protocols import ArmCounts, Backlog, Entry, ResponseSummary
from feedback.store import Durability, durability, refusal, translated

logger = logging.getLogger(__name__)

_APPEND = (Path(__file__).parent / "append.lua").read_text()
_ACK = """
local done = 0
for i = 2, #ARGV do
  if redis.call('XACK', KEYS[1], ARGV[1], ARGV[i]) == 1 then
    done = done + 1
    local entry = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
    local kind = entry and entry[2][2]
    if kind ~= 'filler' then redis.call('HINCRBY', KEYS[2], 'events', -1) end
    if kind == 'vote' or kind == 'comparison' then redis.call('HINCRBY', KEYS[2], 'votes', -1) end
  end
end
return done
"""
_DAMAGED_KEPT = 1000
_MARKS_AT_ONCE = 2000  # looked up in one command, which holds up everybody else's
_AT_ONCE = 64  # events in one call of the script, which holds up everybody else's


class RedisEventLog:
    """See ``protocols.EventLog``. ``response_life_seconds``: how long responses can be voted on."""

    def __init__(self, client: redis.Redis, response_life_seconds: float = 30 * 86400.0) -> None:
        self._client: Any = client  # redis-py's stubs offer str and bytes for every answer; ours are bytes
        self._life = max(1, int(response_life_seconds))
        self._flushed = Flushed(client)
        self._append = client.register_script(_APPEND)
        self._ack = client.register_script(_ACK)
        self._eraser = Eraser(client)

    def append(self, events: Sequence[Event]) -> list[Appended]:
        if not events:
            return []
        with translated():
            try:
                replies = self._run(events)
            except redis.exceptions.NoScriptError:  # a fresh server, or its scripts were flushed
                self._client.script_load(_APPEND)
                replies = self._run(events)
            except redis.ReadOnlyError:  # no primary any more: the address may name another server by now
                self._client.connection_pool.disconnect()
                raise
        appended = [
            None
            if isinstance(reply, Exception)
            else Appended(event.event_id, reply.decode(), getattr(event, "feedback_id", None))
            for event, reply in zip(events, replies, strict=True)
        ]
        written = [one for one in appended if one is not None]
        if len(written) < len(events):
            raise EventsRefused(next(filter(None, map(refusal, replies))), appended)
        return written

    def _run(self, events: Sequence[Event]) -> list[Any]:
        """What the server answered to each; an error only where it is of that event alone."""
        with self._client.pipeline(transaction=False) as pipe:
            for at in range(0, len(events), _AT_ONCE):
                told = [part for event in events[at : at + _AT_ONCE] for part in self._told(event)]
                pipe.execute_command("EVALSHA", self._append.sha, 0, *told)
            waits = self._flushed.add_wait(pipe)
            answers = pipe.execute(raise_on_error=False)
        flushed = answers.pop() if waits else None
        replies = []
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
            replies += answer
        for reply in replies:
            if isinstance(reply, Exception) and refusal(reply) is None:
                raise reply
        if waits:
            self._flushed.check(flushed)
        return replies

    def _told(self, event: Event) -> tuple[str, str, bytes, bytes]:
        """What the script is told of one event."""
        return kind_of(event), event.event_id, encode(event), orjson.dumps(facts_of(event, self._life))

    def claim(self, consumer: str, count: int, idle_seconds: float = 60.0) -> list[Entry]:
        with translated():
            self._group()
            _, abandoned, *_ = self._client.xautoclaim(
                keys.EVENTS, keys.ARCHIVE_GROUP, consumer, int(idle_seconds * 1000), "0-0", count=count
            )
            rows = [row for row in abandoned if row[1]]
            if len(rows) < count:
                fresh = self._client.xreadgroup(
                    keys.ARCHIVE_GROUP, consumer, {keys.EVENTS: ">"}, count=count - len(rows)
                )
                rows += _rows(fresh)
        return self._decoded(rows)

    def _decoded(self, rows: Sequence[Any]) -> list[Entry]:
        """The entries; one that does not decode is set aside, so that it blocks nobody."""
        entries = []
        for position, values in rows:
            if values.get(b"k") == FILLER.encode():
                self.ack([position.decode()])
                continue
            try:
                entries.append(Entry(position.decode(), decode(values[b"e"])))
            except (InvalidRecord, KeyError) as error:
                logger.warning("event at %s does not decode and is set aside: %s", position.decode(), error)
                with translated():
                    self._client.lpush(
                        keys.DAMAGED,
                        orjson.dumps({k.decode(): v.decode(errors="replace") for k, v in values.items()}),
                    )
                    self._client.ltrim(keys.DAMAGED, 0, _DAMAGED_KEPT - 1)
                self.ack([position.decode()])
        return entries

    def _group(self) -> None:
        try:
            self._client.xgroup_create(keys.EVENTS, keys.ARCHIVE_GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def ack(self, positions: Sequence[str]) -> None:
        if positions:
            with translated():
                self._ack(keys=[keys.EVENTS, keys.WAITING], args=[keys.ARCHIVE_GROUP, *positions])

    def trim(self) -> int:
        """See the protocol. The group's progress is read before its pending entries, and both only grow, so a
        claim in between cannot lose anything.
        """
        with translated():
            self._group()
            delivered = self._delivered()
            pending = self._client.xpending(keys.EVENTS, keys.ARCHIVE_GROUP)
            floor = (
                min(pending["min"], _after(delivered), key=order) if pending["pending"] else _after(delivered)
            )
            return int(self._client.xtrim(keys.EVENTS, minid=floor, approximate=False))

    def _delivered(self) -> str:
        groups = self._client.xinfo_groups(keys.EVENTS)
        group = next(g for g in groups if _text(g["name"]) == keys.ARCHIVE_GROUP)
        return _text(group["last-delivered-id"])

    def backlog(self) -> Backlog:
        with translated():
            self._group()
            waiting = self._client.hgetall(keys.WAITING)
            pending = self._client.xpending(keys.EVENTS, keys.ARCHIVE_GROUP)
            fresh = self._client.xrange(keys.EVENTS, min="(" + self._delivered(), count=1)
        heads = [_text(row[0]) for row in fresh] + ([_text(pending["min"])] if pending["pending"] else [])
        oldest = max((time.time() - order(head)[0] / 1000 for head in heads), default=0.0)
        return Backlog(int(waiting.get(b"events", 0)), int(waiting.get(b"votes", 0)), max(0.0, oldest))

    def votes_total(self, alias: str) -> int:
        with translated():
            return int(self._client.hget(keys.VOTES_TOTAL, alias) or 0)

    def response(self, response_id: str) -> ResponseSummary | None:
        with translated():
            data = self._client.get(keys.response(response_id))
            if data is None:
                return None
            number, time, prompt = data.decode().split("|")
            shape = self._client.hget(keys.SHAPES, number)
        return ResponseSummary(response_id, **orjson.loads(shape), time=float(time), prompt=prompt)

    def latest(self, response_id: str, subject: str) -> Vote | None:
        with translated():
            body = self._client.hget(keys.voice(feedback_id(response_id, subject)), "body")
        event = None if body is None else decode(body)
        return event if isinstance(event, Vote) and event.rating is not None else None

    def history(self, response_id: str, subject: str) -> list[Vote]:
        said = self.sayings(feedback_id(response_id, subject))
        return sorted((event for event in said if isinstance(event, Vote)), key=lambda vote: vote.time)

    def sayings(self, feedback_id: str) -> list[Event]:
        with translated():
            said = self._client.lrange(keys.history(feedback_id), 0, -1)
            if not said:  # once, or never
                said = [body for body in [self._client.hget(keys.voice(feedback_id), "body")] if body]
        return [decode(data) for data in said]

    def spoken(self, subject: str) -> list[Event]:
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for name in self._client.smembers(keys.spoken(subject)):
                pipe.hget(keys.voice(_text(name)), "body")
                pipe.hget(keys.REPORTS, name)
            stored = pipe.execute()
        return sorted((decode(data) for data in stored if data is not None), key=lambda event: event.time)

    def unarchived(self, subject: str) -> list[Event]:
        with translated():
            rows = entries_with(self._client, subject.encode())
            found = [event for _, data in rows if (event := decoded(data)) is not None]
        return [event for event in found if event.subject == subject]

    def responses_of(self, subject: str, limit: int = 100) -> list[str]:
        if limit <= 0:
            return []
        with translated():
            return response_ids(self._client.lrange(keys.subject(subject), 0, limit - 1))

    def counts(self, experiment: str) -> dict[str, ArmCounts]:
        with translated():
            stored = self._client.hgetall(keys.counts(experiment))
            table: dict[str, dict[str, float]] = {}
            for field, value in stored.items():
                arm, _, name = field.decode().rpartition("|")
                table.setdefault(arm, {})[name] = float(value)
            with self._client.pipeline(transaction=False) as pipe:
                for arm in table:
                    pipe.pfcount(keys.exposed(experiment, arm))
                subjects = pipe.execute()
        return {arm: arm_counts(row, n) for (arm, row), n in zip(table.items(), subjects, strict=True)}

    def reports(self, open_only: bool = True) -> list[Event]:
        with translated():
            stored = self._client.hvals(keys.REPORTS)
        found = [event for event in map(decode, stored) if isinstance(event, Report)]
        chosen = [event for event in found if event.verdict is None or not open_only]
        return sorted(chosen, key=lambda event: event.time)

    def forget(self, subject: str, before: float, responses: Collection[str] = ()) -> str:
        with translated():
            self._group()
            mark = keys.forgotten(mark_of(subject))
            until = max(before, float(self._client.get(mark) or 0.0))  # an older wish takes nothing back
            self._client.set(mark, repr(until), ex=FORGOTTEN_SECONDS)
            last = _text(self._client.xinfo_stream(keys.EVENTS)["last-generated-id"])
            self._eraser.erase(subject, before, responses)
        return last

    def forgotten(self, subjects: Collection[str]) -> dict[str, float]:
        names = {mark_of(subject): subject for subject in subjects}
        return {names[mark]: when for mark, when in self.wishes(names).items()}

    def wishes(self, marks: Collection[str]) -> dict[str, float]:
        asked, told = sorted(marks), list[Any]()
        with translated():
            for at in range(0, len(asked), _MARKS_AT_ONCE):
                told += self._client.mget([keys.forgotten(mark) for mark in asked[at : at + _MARKS_AT_ONCE]])
        return {mark: float(when) for mark, when in zip(asked, told, strict=True) if when is not None}

    def gone(self, position: str) -> bool:
        with translated():
            return self._eraser.gone(position)

    def rewrite(self) -> bool:
        with translated():
            return self._eraser.rewrite()

    def rewritten(self) -> bool:
        with translated():
            return self._eraser.rewritten()

    def discard(self, before: float, texts_before: float) -> int:
        with translated():
            return self._eraser.discard(before, texts_before)

    def passed(self, position: str) -> bool:
        with translated():
            self._group()
            pending = self._client.xpending(keys.EVENTS, keys.ARCHIVE_GROUP)
        return not pending["pending"] or order(pending["min"]) > order(position)

    def ping(self) -> None:
        with translated():
            self._client.ping()

    def durability(self) -> Durability:
        """The server's persistence settings. Raises StoreUnavailable."""
        return durability(self._client)


def _rows(reply: Any) -> list[Any]:
    """XREADGROUP's entries: a list of pairs under RESP2, a map of lists under RESP3."""
    if isinstance(reply, dict):
        return [row for batches in reply.values() for batch in batches for row in batch]
    return [row for _, rows in reply or () for row in rows]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _after(position: str) -> str:
    major, minor = order(position)
    return f"{major}-{minor + 1}"
