"""Taking a subject, or what is old, out of Redis: the stream, the indexes, and the server's own journal."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import orjson
import redis

from feedback import keys
from feedback.errors import InvalidRecord
from feedback.events import Event, Report, decode, encode
from feedback.ids import RESPONSE
from feedback.texts import belongs

logger = logging.getLogger(__name__)
_PAGE = 500
_NODE_BYTES = 4096  # the server's stream-node-max-bytes, unless somebody changed it
FILLER = "filler"
"""The kind of an entry that is no event. A stream keeps entries in nodes, and the bytes of a deleted entry until its
node is empty. A filler as large as a node begins a new one, so that what is deleted stands with nothing that comes
later; consumers acknowledge it and read on.
"""
# Deletes one entry; it waits no more if nobody had acknowledged it.
_DROP = """
local entry = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])[1]
if not entry then return 0 end
local major, minor = string.match(ARGV[2], '(%d+)-(%d+)')
local waits = redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 1
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local last = group[8]
  if group[2] == ARGV[1] then
    local m, n = string.match(last, '(%d+)-(%d+)')
    major, minor, m, n = tonumber(major), tonumber(minor), tonumber(m), tonumber(n)
    if major > m or (major == m and minor > n) then waits = true end
  end
end
if waits then
  local kind = entry[2][2]
  redis.call('HINCRBY', KEYS[2], 'events', -1)
  if kind == 'vote' or kind == 'comparison' then redis.call('HINCRBY', KEYS[2], 'votes', -1) end
end
return redis.call('XDEL', KEYS[1], ARGV[2])
"""


class Eraser:
    """Of one server. Failures come as redis-py raises them."""

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client
        self._drop = client.register_script(_DROP)

    def erase(self, subject: str, before: float, responses: Collection[str]) -> None:
        """Out of indexes and stream; ``responses`` are ids of its responses that the indexes may not know."""
        self._indexes(subject, responses)
        if self._entries(subject, before):
            self._client.xadd(keys.EVENTS, {"k": FILLER, "e": "x" * _NODE_BYTES})
        self._damaged(subject.encode())
        self._offers(subject.encode())

    def _indexes(self, subject: str, responses: Collection[str]) -> None:
        """Totals stay: they name nobody."""
        client = self._client
        mine = {*response_ids(client.lrange(keys.subject(subject), 0, -1)), *responses}
        spoken = [_text(name) for name in client.smembers(keys.spoken(subject))]
        experiments = client.hgetall(keys.EXPERIMENTS)
        with client.pipeline(transaction=False) as pipe:
            for name in spoken:
                pipe.hget(keys.voice(name), "body")  # a first saying is its own history
                pipe.lrange(keys.history(name), 0, -1)
            found = pipe.execute()
        bodies = [data for said in found for data in (said if isinstance(said, list) else [said]) if data]
        with client.pipeline(transaction=False) as pipe:
            for name in [*mine, *filter(None, map(_event_id, bodies))]:
                pipe.delete(keys.seen(name))  # an Idempotency-Key among them
            for name in mine:
                pipe.delete(keys.response(name))
            for name in spoken:
                pipe.delete(keys.voice(name), keys.history(name))
                pipe.hdel(keys.REPORTS, name)
            pipe.delete(keys.subject(subject), keys.spoken(subject), keys.bucket(f"subject:{subject}"))
            for name, data in experiments.items():
                pipe.srem(keys.entered(_text(name)), subject)
                arms = [arm["name"] for arm in orjson.loads(data)["arms"]]
                fields = [f"{what}|{arm}|{subject}" for what in ("votes", "pairs") for arm in arms]
                pipe.hdel(keys.tallies(_text(name)), *fields)
                pipe.delete(keys.paired(_text(name), subject))
            pipe.execute()

    def _entries(self, subject: str, before: float) -> int:
        gone = 0
        for position, data in entries_with(self._client, subject.encode()):
            event = decoded(data)
            if event is not None and belongs(event, subject, before):
                self._drop(keys=[keys.EVENTS, keys.WAITING], args=[keys.ARCHIVE_GROUP, position])
                self._client.delete(keys.seen(event.event_id))
                gone += 1
        return gone

    def _damaged(self, name: bytes) -> None:
        for entry in self._client.lrange(keys.DAMAGED, 0, -1):
            if name in entry:
                self._client.lrem(keys.DAMAGED, 0, entry)

    def _offers(self, name: bytes) -> None:
        """What raters were shown under which id: there is no index by rater."""
        for place in self._client.scan_iter(match=keys.offer("*"), count=_PAGE):
            if name in (self._client.get(place) or b""):
                self._client.delete(place)

    def discard(self, before: float, texts_before: float) -> int:
        """Old reports, or only their comments; what did not decode when there is anything to discard. Everything
        else has a life of its own, or goes once it is archived.
        """
        gone = 0
        for name, data in self._client.hgetall(keys.REPORTS).items():
            report = decode(data)
            if report.time < before:
                gone += int(self._client.hdel(keys.REPORTS, name))
            elif isinstance(report, Report) and report.comment and report.time < texts_before:
                self._client.hset(keys.REPORTS, name, encode(replace(report, comment=None)))
        if max(before, texts_before) > 0:
            self._client.delete(keys.DAMAGED)
        return gone

    def gone(self, position: str) -> bool:
        """Whether no node of the stream is left that holds entries up to there, be they deleted."""
        first = self._client.xrange(keys.EVENTS, count=1)
        return not first or order(first[0][0]) > order(position)

    def rewrite(self) -> bool:
        """Have the server write its append-only file anew, without what was deleted. False: it must be asked again
        later, because it is at it already and may have begun before the last deletion.
        """
        if not self._journals():
            return True
        try:
            self._client.bgrewriteaof()
        except redis.ResponseError as error:
            if "in progress" in str(error) or "scheduled" in str(error):
                return False
            logger.warning(
                "the server does not let its journal be rewritten (%s): it does so in its own time", error
            )
        return True

    def rewritten(self) -> bool:
        """Whether no rewriting is under way or due. A failed one is asked for again, and is then due."""
        if not self._journals():
            return True
        told = self._client.info("persistence")
        if told.get("aof_rewrite_in_progress") or told.get("aof_rewrite_scheduled"):
            return False
        if told.get("aof_last_bgrewrite_status", "ok") != "ok":
            self.rewrite()
            return False
        return True

    def _journals(self) -> bool:
        with suppress(
            redis.ResponseError
        ):  # forbidden: then nothing is known of it, and it is asked all the same
            return bool(self._client.info("persistence").get("aof_enabled", 1))
        return True


def response_ids(held: Sequence[bytes]) -> list[str]:
    """Of a subject's list."""
    names = map(_text, held)
    return [name[1:] if name.startswith("=") else RESPONSE + name.removeprefix(RESPONSE) for name in names]


def entries_with(client: Any, name: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Position and body of the stream's entries in whose body the name is found."""
    start = "-"
    while rows := client.xrange(keys.EVENTS, min=start, count=_PAGE):
        for position, values in rows:
            data = values.get(b"e", b"")
            if name in data:
                yield position, data
        start = "(" + _text(rows[-1][0])


def decoded(data: bytes) -> Event | None:
    """The event; None when it does not decode."""
    try:
        return decode(data)
    except InvalidRecord:
        return None


def order(position: bytes | str) -> tuple[int, int]:
    """A position as a sort key; the first number is Unix milliseconds."""
    major, _, minor = _text(position).partition("-")
    return int(major), int(minor or 0)


def _event_id(data: bytes) -> str | None:
    event = decoded(data)
    return None if event is None else event.event_id


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
