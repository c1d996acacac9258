"""Votes a second from the archive into a batch on disk, and how much memory that takes.

    python -m benchmarks.batching --votes 200000

Votes on as many responses: thumbs, a third with reasons and a twentieth with a correction, and comparisons of two
replies; one reply in ten is a common one, so that agreement between raters has work to do. A third of the votes come
before their response's event. All of it is claimed from a log in memory into segments, merged as the schedule does,
and then a process of its own builds the batch: standing, joined, weighed by agreement and caps, as Parquet with its
manifest; and makes it again from the manifest alone. Peak memory is that process's, with Python and its imports.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.results import Figure, Row, parser_of
from feedback.archive import Archive
from feedback.events import Comparison, Event, Response, Vote
from feedback.ids import feedback_id
from feedback.protocols import Entry
from training.batch_files import EXAMPLES
from training.batching import build, rebuild
from training.settings import TrainingSettings
from training.tasks import CLAIM

DESCRIPTION = "votes a second from the archive into a batch, and the memory that takes"
SPEECH = (
    "the order was sent on monday and will arrive in two days so please wait for the mail or call us then "
    "you can change an address until it leaves our house after that ask the carrier with the number we gave"
)
WORDS = SPEECH.split()
SUBJECT_VOTES = 40
CRITERIA = {"tone": 2.0, "brevity": 1.0, "helpful": 1.0}


def events_of(votes: int, seed: int = 0) -> Iterator[Event]:
    """Responses and what was said of them, in the order in which they reach the log."""
    rng, late = random.Random(seed), list[Event]()
    for number in range(votes):
        reply = _response(rng, number, votes)
        said = _said(rng, number, reply)
        if number % 3 == 0:
            yield from (said, reply)
            continue
        yield reply
        late.append(said)
        if len(late) > 50:
            yield late.pop(rng.randrange(len(late)))
    yield from late


def _response(rng: random.Random, number: int, votes: int) -> Response:
    two = number // 2  # replies to one prompt
    common = two % 10 == 0
    asked = f"common question {two % 1000}" if common else _words(random.Random(two), 20)
    name = f"chatcmpl-{number:024x}"
    return Response(
        event_id=name, response_id=name, time=1.7e9 + number, alias="heed", adapter="a-000001-0123456789ab",
        arm="live", subject=f"s-{two % (votes // SUBJECT_VOTES):032x}", engine="engine-1",
        messages=(
            {"role": "system", "content": "You answer customers of a mail-order house, in two sentences."},
            {"role": "user", "content": asked},
        ),
        text=f"common reply {number % 3}" if common else _words(rng, 40), finish_reason="stop",
        sampling={"temperature": 1.0, "top_p": 1.0, "max_tokens": 256}, prompt_tokens=60, completion_tokens=50,
    )  # fmt: skip


def _said(rng: random.Random, number: int, reply: Response) -> Event:
    name, reasons = f"ev-{number:030x}", ("tone", "nonsense") if number % 3 == 0 else ()
    if number % 5 == 1:  # its prompt's first reply has gone out, too
        sides = [(f"chatcmpl-{number - 1:024x}",), (reply.response_id,)]
        rng.shuffle(sides)
        return Comparison(
            event_id=name, feedback_id=feedback_id(f"cmpr-{number}", reply.subject), time=reply.time + 60,
            subject=reply.subject, ranking=tuple(sides), alias="heed", reasons=reasons,
        )  # fmt: skip
    return Vote(
        event_id=name, feedback_id=feedback_id(reply.response_id, reply.subject), time=reply.time + 60,
        response_id=reply.response_id, subject=reply.subject, rating="up" if rng.random() < 0.7 else "down",
        alias="heed", reasons=reasons, correction=_words(rng, 30) if number % 20 == 0 else None,
    )  # fmt: skip


def _words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choices(WORDS, k=count))


def archived(folder: Path, votes: int) -> Row:
    """Write all events as the archive task does, a claim at a time, and merge."""
    archive, made, seconds = Archive(folder), events_of(votes), 0.0
    entries = [Entry(f"{1000 + place}-0", event) for place, event in enumerate(made)]
    for start in range(0, len(entries), CLAIM):
        began = time.perf_counter()
        archive.write(entries[start : start + CLAIM])
        seconds += time.perf_counter() - began
    archive.compact(small=CLAIM + 1)
    size = sum(path.stat().st_size for path in folder.glob("*.parquet"))
    return {
        "what": "archive", "events": len(entries), "per_second": round(len(entries) / seconds),
        "bytes_an_event": round(size / len(entries)), "segments": len(archive.segments()),
    }  # fmt: skip


def built(root: Path, votes: int) -> list[Row]:
    """In a process of its own: the batch, and the batch again."""
    settings = TrainingSettings(data_dir=root, round_max_votes=2 * votes)
    archive, before = Archive(settings.archive_dir), _peak()
    began, worked = time.perf_counter(), time.process_time()
    batch = build(archive, "heed", settings, CRITERIA, votes_total=votes)
    seconds, worked, peak = time.perf_counter() - began, time.process_time() - worked, _peak()
    began = time.perf_counter()
    data = rebuild(batch.folder, archive)
    again = time.perf_counter() - began
    assert data == (batch.folder / EXAMPLES).read_bytes()
    return [
        {
            "what": "batch", "votes": votes, "examples": batch.votes, "seconds": round(seconds, 2),
            "cpu_seconds": round(worked, 2),
            "per_second": round(votes / seconds), "peak_mb": peak, "before_mb": before,
        },
        {"what": "rebuilt", "same_bytes": True, "bytes": len(data), "seconds": round(again, 2)},
    ]  # fmt: skip


def round_built(root: Path, votes: int) -> list[Row]:
    """In a process of its own: a batch as rounds take it, of the newest votes alone."""
    settings = TrainingSettings(data_dir=root)
    began = time.perf_counter()
    batch = build(Archive(settings.archive_dir), "heed", settings, CRITERIA, votes_total=votes)
    return [
        {
            "what": "newest", "of": votes, "examples": batch.votes, "seconds": round(time.perf_counter() - began, 2),
            "peak_mb": _peak(),
        }
    ]  # fmt: skip


def _peak() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def run(arguments: Sequence[str]) -> list[Row]:
    """Parse and measure: archive, batches, rebuilt ones."""
    parser = parser_of(__doc__)
    parser.add_argument("--votes", type=int, default=200_000)
    parser.add_argument("--times", type=int, default=3, help="how often a batch is built; the median counts")
    parser.add_argument("--archive-in", type=Path, help="only write the archive into this folder")
    parser.add_argument("--build-in", type=Path, help="only build from the archive in this folder")
    parser.add_argument(
        "--round-in", type=Path, help="only build a round's batch from the archive in this folder"
    )
    told = parser.parse_args(arguments)
    if told.round_in:
        return round_built(told.round_in, told.votes)
    if told.archive_in:
        return [archived(told.archive_in / "archive", told.votes)]
    if told.build_in:
        return built(told.build_in, told.votes)
    with tempfile.TemporaryDirectory() as name:
        rows = _apart("--archive-in", name, told.votes)
        parts = ("--build-in", "--round-in")
        runs = [[row for part in parts for row in _apart(part, name, told.votes)] for _ in range(told.times)]
    for number in range(len(runs[0])):
        ordered = sorted((made[number] for made in runs), key=lambda row: row["seconds"])
        rows.append({**ordered[len(ordered) // 2], "all_seconds": [row["seconds"] for row in ordered]})
    return rows


def _apart(part: str, folder: str, votes: int) -> list[Row]:
    """In a process of its own, started by one that holds little: a peak of memory is handed down."""
    command = [sys.executable, "-m", "benchmarks.batching", "--votes", str(votes), part, folder]
    return [json.loads(line) for line in subprocess.check_output(command, text=True).splitlines()]


def figures(rows: Sequence[Row]) -> list[Figure]:
    """One line for building, one for rebuilding."""
    found = {row["what"]: row for row in rows}
    batch, archive, newest = found["batch"], found["archive"], found["newest"]
    return [
        Figure(
            f"votes a second into a batch, {batch['votes']:,} votes with their responses, joined and weighed",
            f"{batch['per_second']:,}",
            f"{batch['peak_mb']:,} MB at most ({batch['before_mb']:,} before); "
            f"into the archive {archive['per_second']:,} events a second",
        ),
        Figure(
            f"a round's batch, the newest {newest['examples']:,} of these",
            f"{newest['seconds']} s",
            f"{newest['peak_mb']:,} MB at most",
        ),
        Figure(
            "the same batch made anew from the archive",
            "the same bytes",
            f"in {found['rebuilt']['seconds']} s",
        ),
    ]


if __name__ == "__main__":
    for result in run(sys.argv[1:]):
        print(json.dumps(result))
