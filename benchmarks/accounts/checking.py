"""Compares what clients were told with what the archive and a batch hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.accounts.house import House
from benchmarks.accounts.voters import Told
from benchmarks.results import Row
from feedback.archive import Archive
from feedback.events import Vote
from tests.servers import wait_until
from training.batch_files import read
from training.batching import build
from training.settings import TrainingSettings

SETTLING_SECONDS = 150.0  # the lease of a worker that was killed is one part of it


@dataclass(frozen=True)
class Books:
    """Both sides."""

    missing: int  # acknowledged and not archived
    double: int  # archived more often than acknowledged
    wrong: int  # responses on which something else stands than was acknowledged last
    batch_missing: int  # votes that stand and are not in the batch
    batch_double: int  # events that are in the batch twice
    miscounted: int  # by how many the store's own total is more than was said, or less than stands


def settled(house: House) -> None:
    """Until everything that was said is archived."""
    log = house.log

    def done() -> bool:
        return house.spool.empty and log.backlog().events == 0

    wait_until(done, SETTLING_SECONDS, "the archive of every event", house.folder / "worker.log")


def compare(house: House, told: Told) -> Books:
    """Once nothing waits any more."""
    archive = Archive(house.data / "archive")
    votes = [entry.event for entry in archive.events() if isinstance(entry.event, Vote)]
    archived = Counter((vote.response_id, vote.rating) for vote in votes)
    acknowledged = told.acknowledged
    newest = {vote.response_id: vote for vote in sorted(votes, key=lambda vote: vote.time)}
    stands = {name: vote.rating for name, vote in newest.items() if vote.rating is not None}
    last = {name: said[-1] for name, said in told.sayings.items() if said[-1] is not None}
    used = in_batch(archive, house.data, len(votes))
    total = house.log.votes_total("heed")  # what came too late to stand, out of a spool, is not in it
    counted = sum(count for (_, rating), count in acknowledged.items() if rating is not None)
    return Books(
        missing=(acknowledged - archived).total(),
        double=(archived - acknowledged).total(),
        wrong=sum(last.get(name) != stands.get(name) for name in last.keys() | stands.keys()),
        batch_missing=len(last) - len(used),
        batch_double=sum(count - 1 for count in used.values()),
        miscounted=max(0, total - counted, len(last) - total),
    )


def in_batch(archive: Archive, data: Path, most: int) -> Counter[str]:
    """How often each event is in a batch of all votes."""
    settings = TrainingSettings(data_dir=data, round_max_votes=max(100, most))
    batch = build(archive, "heed", settings, None, votes_total=most)
    return Counter(thumb.event_id for thumb in read(batch).thumbs)


def row_of(books: Books, told: Told, percentile: Callable[[list[float], float], float]) -> Row:
    """As it is kept."""
    spooled, stored = told.statuses[202], told.statuses[200] + told.statuses[201]
    return {
        "acknowledged": told.acknowledged.total(),
        "per_second": round(told.acknowledged.total() / told.seconds, 1),
        "seconds": round(told.seconds, 1),
        "stored": stored,
        "spooled": spooled,
        "refused": told.statuses[503],
        "unanswered": told.statuses[0],
        "ack_p50_ms": round(1000 * percentile(told.waits, 0.5), 1),
        "ack_p99_ms": round(1000 * percentile(told.waits, 0.99), 1),
        "missing": books.missing,
        "double": books.double,
        "wrong": books.wrong,
        "batch_missing": books.batch_missing,
        "batch_double": books.batch_double,
        "miscounted": books.miscounted,
    }
