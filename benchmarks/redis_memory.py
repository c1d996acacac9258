"""What a response that was served leaves in Redis once it is archived, over a million of them.

    python -m benchmarks.redis_memory --responses 1000000

Responses of an experiment's two arms, ten to a subject, some with a vote, go into a real Valkey through the log's own
script, and the real archive task empties the stream after each part. Memory is the server's own `used_memory` after its
allocator was asked to give back what is free, without what the empty server holds; `rss` beside it. The server does not
fsync here: what it holds is the same, and a million is sooner there.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import redis

from benchmarks.results import Figure, Row, parser_of
from feedback import keys
from feedback.events import Event, Response, Vote
from feedback.ids import Secrets, feedback_id, mint_response, new_event_id, subject_of
from feedback.log import RedisEventLog
from feedback.store import connect
from tests.servers import valkey_server

DESCRIPTION = "bytes in Redis for each response that was served and archived"
TO_A_SUBJECT, GROUP = 10, 500
SHARES = {"control": 0.5, "candidate": 0.5}
ADAPTERS = {"control": "a-000011-0123456789ab", "candidate": "a-000012-ba9876543210"}


def served(secrets: Secrets, votes: float) -> Iterator[list[Event]]:
    """One response after another, and the votes on every ``1 / votes``th, in groups."""
    every = round(1 / votes) if votes else 0
    group: list[Event] = []
    for number in itertools.count():
        user = number // TO_A_SUBJECT
        subject, now = subject_of(secrets, "k-bench", f"user:{user}"), time.time()
        name, arm = mint_response(secrets, subject, now=now), ("control", "candidate")[user % 2]
        asked = ({"role": "user", "content": f"What is {number}?"},)
        group.append(
            Response(
                event_id=name, response_id=name, time=now, alias="heed", adapter=ADAPTERS[arm], arm=arm,
                subject=subject, experiment="exp", propensity=0.5, arm_shares=SHARES, messages=asked, text="It is.",
            )
        )  # fmt: skip
        if every and number % every == 0:
            said = feedback_id(name, subject)
            vote = Vote(
                event_id=new_event_id(),
                feedback_id=said,
                response_id=name,
                time=now,
                subject=subject,
                rating="up",
            )
            group.append(vote)
        if len(group) >= GROUP:
            yield group
            group = []


def archive_all() -> None:
    """The task, as the schedule runs it."""
    from training import tasks

    tasks.archive()


def memory(client: Any) -> tuple[int, int]:
    """Bytes in use and resident, with nothing waiting to be given back."""
    client.memory_purge()
    told = client.info("memory")
    return int(told["used_memory"]), int(told["used_memory_rss"])


def fill(url: str, responses: int, votes: float, parts: int) -> list[Row]:
    """One row a part: what all responses up to it take."""
    client: redis.Redis = connect(url, 30.0)
    log, rows = RedisEventLog(client), []
    empty, empty_rss = memory(client)
    groups, done = served(Secrets((b"k" * 32,)), votes), 0
    for part in range(1, parts + 1):
        while done < responses * part // parts:
            group = next(groups)
            log.append(group)
            done += sum(isinstance(event, Response) for event in group)
        archive_all()
        used, rss = memory(client)
        rows.append(
            {
                "votes": votes,
                "responses": done,
                "stream": int(client.xlen(keys.EVENTS)),
                "bytes_each": round((used - empty) / done, 1),
                "rss_each": round((rss - empty_rss) / done, 1),
            }
        )
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def run(arguments: Sequence[str]) -> list[Row]:
    """Parse and measure; one row a part."""
    parser = parser_of(__doc__)
    parser.add_argument("--responses", type=int, default=1_000_000)
    parser.add_argument("--votes", type=float, nargs="+", default=[0.0], help="votes to a response")
    parser.add_argument("--parts", type=int, default=5)
    told, rows = parser.parse_args(arguments), []
    for votes in told.votes:
        with tempfile.TemporaryDirectory() as name, valkey_server(Path(name) / "valkey") as (url, _):
            os.environ |= {"HEED_REDIS_URL": url, "HEED_DATA_DIR": name}
            from training import tasks

            tasks.settings.cache_clear()
            tasks.parts.cache_clear()
            connect(url).config_set("appendfsync", "no")
            rows += fill(url, told.responses, votes, told.parts)
    return rows


def figures(rows: Sequence[Row]) -> list[Figure]:
    """The last part, beside the first."""
    first, last = rows[0], rows[-1]
    return [
        Figure(
            f"bytes in Redis for each response served and archived, {last['responses']:,} of them",
            f"{last['bytes_each']:.0f}",
            f"of the first {first['responses']:,}: {first['bytes_each']:.0f}; in the stream: {last['stream']}",
        )
    ]


if __name__ == "__main__":
    for result in run(sys.argv[1:]):
        print(json.dumps(result))
