"""A subject forgotten among a million events, and a search of every file that proves it.

    python -m benchmarks.forget --events 1000000

A real Valkey with `appendfsync always`, and the workers' own tasks. The last 100,000 events go through the log into the
archive as they do in a running Heed, those before them straight; every 1,000th is the subject's. Besides, some wait in
the log, some in the spool, one batch holds the subject and one adapter learnt from it. Then the subject asks to be
forgotten, and the schedule's tasks run as often as they do by default. A full-text search reads every byte of every
file before and after, Parquet unpacked.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import redis

from benchmarks.results import Figure, Row, parser_of
from feedback import forget
from feedback.events import Event, Response, Vote
from feedback.ids import feedback_id
from feedback.log import RedisEventLog
from feedback.protocols import AdapterRecord, AliasRecord, Entry
from feedback.registry import RedisRegistry
from feedback.spool import Spool
from tests.servers import valkey_server

DESCRIPTION = "a subject forgotten among a million events, proven by a search of every file"
WHO, OTHER = "s-f0f0f0f0f0f0f0f0f0f0f0f0", "s-111111111111111111111111"
MARK, OTHER_MARK = "a-private-marker", "anothers-marker"
SHARE = 1000  # one in so many events is the subject's
AT_ONCE, CLAIM = 2000, 20_000
THROUGH_LOG = 100_000  # events that are appended, claimed, archived, acknowledged and trimmed
SENTENCE = "when do you open and can you help me with my order of last week please thank you"
WORDS = SENTENCE.split()
PAUSE = 4.0  # seconds between two looks of the task, by default


def said(number: int, now: float) -> list[Event]:
    """A response and a vote on it."""
    mine = number % (SHARE // 2) == 0
    who = WHO if mine else OTHER if number == 1 else f"s-{number % 50_000:024x}"
    mark = MARK if mine else OTHER_MARK
    text = " ".join(WORDS[(number * step) % len(WORDS)] for step in range(1, 30)) + f" {mark} {number}"
    name = f"chatcmpl-{number:032x}"
    reply = Response(
        event_id=name, response_id=name, time=now, alias="heed", adapter="a-1", arm="live", subject=who,
        messages=({"role": "user", "content": text},), text=text,
    )  # fmt: skip
    vote = Vote(
        event_id=f"ev-{number:032x}", feedback_id=feedback_id(name, who), response_id=name, time=now, subject=who,
        rating="up" if number % 3 else "down", alias="heed", comment=mark,
    )  # fmt: skip
    return [reply, vote]


def filled(log: RedisEventLog, events: int, now: float) -> None:
    """Most of them straight into the archive, in segments as merging makes them; the last ones through the log, as in a
    running Heed.
    """
    from training.tasks import archive_of, parts

    registry, _ = parts()
    archive = archive_of(registry)
    straight = max(0, events - THROUGH_LOG) // CLAIM * CLAIM // 2
    for start in range(0, straight, CLAIM // 2):
        numbers = range(start, start + CLAIM // 2)
        made = [event for number in numbers for event in said(number, now)]
        archive.write([Entry(f"{2 * start + place + 1}-0", event) for place, event in enumerate(made)])
    for start in range(straight, events // 2, AT_ONCE // 2):
        log.append([event for number in range(start, start + AT_ONCE // 2) for event in said(number, now)])
        waits = log.backlog().events
        if waits >= CLAIM:
            entries = log.claim("bench", CLAIM)
            forget.archived(log, archive, entries)
            log.ack([entry.position for entry in entries])
            log.trim()


def files_with(root: Path, *words: str) -> dict[str, int]:
    """How many files hold each word, Parquet unpacked, every byte read."""
    found = dict.fromkeys(words, 0)
    for path in root.rglob("*"):
        if path.is_file():
            for word in words:
                found[word] += any(word.encode() in data for data in _contents(path))
    return found


def _contents(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    yield data
    if path.suffix == ".parquet" and data:
        for column in pq.read_table(path).columns:
            for chunk in column.chunks:
                yield from (bytes(buffer) for buffer in chunk.buffers() if buffer is not None)


def measured(root: Path, url: str, events: int) -> Row:
    """Fill, forget, search."""
    os.environ |= {"HEED_DATA_DIR": str(root / "data"), "HEED_REDIS_URL": url}
    from training import tasks
    from training.batching import build

    client = redis.Redis.from_url(url)
    client.config_set("rdbcompression", "no")  # so that the search can read the base of the journal
    registry, log = RedisRegistry(client), RedisEventLog(client)
    registry.put_alias(AliasRecord(name="heed"))
    now = time.time()
    began = time.monotonic()
    filled(log, events, now)
    tasks.archive()
    chosen = tasks.settings()
    batch = build(tasks.archive_of(registry), "heed", chosen, None, votes_total=events // 2)
    from feedback.lineage import note
    from training.batch_files import read

    note(chosen.lineage_dir, batch.id, {thumb.subject for thumb in read(batch).thumbs} | {WHO})
    registry.add_adapter(
        AdapterRecord(
            id="a-1", alias="heed", state="retired", created=now, path="a-1", base="b", batches=(batch.id,)
        )
    )
    log.append([event for number in range(10**8, 10**8 + SHARE) for event in said(number, now)])
    Spool(chosen.spool_dir).append([event for number in (0, 1) for event in said(number + 2 * 10**8, now)])
    filling = time.monotonic() - began
    print(f"filled in {filling:.0f} s", file=sys.stderr, flush=True)
    before = files_with(root, WHO, MARK, OTHER_MARK)
    assert all(before.values()), f"the search finds nothing: {before}"
    began = time.monotonic()
    receipt = forget.request(registry, WHO)
    while registry.receipt(receipt["id"])["status"] != "done":
        tasks.archive()
        tasks.forget()
        if registry.receipt(receipt["id"])["status"] != "done":
            time.sleep(PAUSE)
    took = time.monotonic() - began
    told = registry.receipt(receipt["id"])
    after = files_with(root, WHO, MARK, OTHER_MARK)
    return {
        "events": events,
        "filled_seconds": round(filling, 1),
        "seconds": round(took, 1),
        "stores": {name: round(when - told["requested"], 1) for name, when in told["stores"].items()},
        "adapters": told["adapters"],
        "files_with_it_before": before,
        "files_with_it_after": after,
        "still": [
            path.name for path in root.rglob("*") if path.is_file() and WHO.encode() in path.read_bytes()
        ],
        "keys_with_it_after": sum(WHO.encode() in key for key in client.scan_iter(count=10_000)),
    }


def run(arguments: Sequence[str]) -> list[Row]:
    """Parse and measure; one row. Raises AssertionError when the search finds anything."""
    parser = parser_of(__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    told = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, valkey_server(Path(folder) / "valkey") as (url, _):
        row = measured(Path(folder), url, told.events)
    left = {word: count for word, count in row["files_with_it_after"].items() if word != OTHER_MARK and count}
    assert not left, f"the search still finds {left}, in {row['still']}"
    assert row["files_with_it_after"][OTHER_MARK], "nothing at all is left"
    assert not row["keys_with_it_after"]
    assert row["adapters"] == ["a-1"]
    return [row]


def figures(rows: Sequence[Row]) -> list[Figure]:
    """One line."""
    return [
        Figure(
            f"a subject forgotten among {row['events']:,} events, no file holds it",
            f"{row['seconds']:.0f} s",
            "",
        )
        for row in rows
    ]


if __name__ == "__main__":
    for result in run(sys.argv[1:]):
        print(json.dumps(result))
