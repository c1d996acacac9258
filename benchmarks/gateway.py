"""What the gateway adds, beside its peers: time, throughput, CPU, memory; one core, an engine that costs nothing.

    python -m benchmarks.gateway --only added rate --targets direct heed

The measured process runs alone on one core; engine, load and Valkey on the others. Heed runs with everything on:
keys, limits, an experiment, signed ids, the log in a Valkey that fsyncs each append, metrics. Targets are asked in
turn within one run, so that the machine's moods meet all alike.

added   one stream at a time, 34 events: the time to the whole answer, less the median without a gateway
rate    32 streams, each asking anew at once: answers a second, and CPU time an answer, which also tells gateways
        apart that wait for the engine or the load; with the engine writing in steps, in bursts, and whole answers
chunks  64 streams at 50 events a second: CPU time an event, in long answers and in ones of 34
streams 2,000 streams open at once: errors, and memory a stream
share   32 streams of a real engine on all cores: its throughput behind a gateway over that without one
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.results import Figure, Row, parser_of, percentile
from benchmarks.wire.answer import Target
from benchmarks.wire.peers import PEERS, STARTED, Absent, version
from benchmarks.wire.targets import Cores, engine_that_costs_nothing, heed, load, parted_cores, write
from benchmarks.wire.upstream import How
from tests.servers import engine_server, valkey_server

DESCRIPTION = "what the gateway adds, beside nginx, vllm-router, a bare FastAPI and LiteLLM"
PARTS = ("added", "rate", "chunks", "streams", "share")
TARGETS = ("direct", "heed", *PEERS)
SLOW = ("litellm",)
WORDS, EVENTS = 30, 34  # max_tokens of an ordinary answer, and what it comes in
WAYS: tuple[How, ...] = ("steps", "burst", "one")


@contextmanager
def standing(names: Sequence[str]) -> Iterator[tuple[Target, list[Target]]]:
    """The engine, and the targets that are named, fresh."""
    with tempfile.TemporaryDirectory() as made, parted_cores() as cores, ExitStack() as up:
        folder = Path(made)
        folder.chmod(0o755)  # for nginx's worker
        engine = up.enter_context(engine_that_costs_nothing(folder))
        yield engine, [up.enter_context(target(name, cores, folder, engine)) for name in names]


@contextmanager
def target(name: str, cores: Cores, folder: Path, engine: Target) -> Iterator[Target]:
    """One target, up."""
    if name == "direct":
        yield engine
    elif name == "heed":
        with (
            valkey_server(folder / "valkey") as (redis_url, _),
            heed(cores, folder, engine, redis_url) as gateway,
        ):
            yield gateway
    else:
        with STARTED[name](cores, folder, engine) as peer:
            yield peer


def added(names: Sequence[str], requests: int) -> list[Row]:
    """One stream at a time. The slow peers in runs of their own, which beside the others would chill the core's
    caches before each of their answers.
    """
    quick = [name for name in names if name not in (*SLOW, "direct")]
    slow = [[name] for name in names if name in SLOW]
    rows = []
    for group in filter(None, (quick, *slow)):
        with standing(["direct", *group]) as (_, targets):
            count = requests if group is quick else requests // 5
            rows += added_rows(load("added", targets, {"requests": count}))
    return rows


def added_rows(times: dict[str, dict[str, list[float]]]) -> list[Row]:
    """Percentiles of each target, and how far they lie over the engine's own median."""
    engine = percentile(times["direct"]["whole"], 0.5)
    rows = []
    for name, took in times.items():
        row: Row = {"part": "added", "target": name, "requests": len(took["whole"])}
        for part, label in ((0.5, "p50"), (0.99, "p99")):
            whole = percentile(took["whole"], part)
            row[f"whole_{label}_ms"] = round(1000 * whole, 3)
            row[f"first_{label}_ms"] = round(1000 * percentile(took["first"], part), 3)
            row[f"added_{label}_ms"] = round(1000 * (whole - engine), 3)
        rows.append(row)
    return rows


def rate(
    names: Sequence[str], rounds: int, seconds: float, ways: Sequence[How] = WAYS, streams: int = 32
) -> list[Row]:
    """Many streams, as fast as they go, for each way in which an engine may write."""
    rows = []
    with standing(names) as (engine, targets):
        for how in ways:
            write(engine, how)
            turns = rounds if how == "steps" else -(-rounds // 2)
            found = load("rate", targets, {"streams": streams, "rounds": turns, "seconds": seconds})
            rows += [
                rate_row(name, told) | {"writes": how, "streams": streams} for name, told in found.items()
            ]
    return rows


def rate_row(name: str, told: dict[str, Any]) -> Row:
    """Of one target."""
    return {
        "part": "rate",
        "target": name,
        "per_second": round(sum(told["done"]) / len(told["done"]), 1),
        "rounds": told["done"],
        "failed": told["failed"],
        "cores": round(told["cpu"] / told["seconds"], 2),
        "cpu_us": a_piece(told, EVENTS),
    }


def a_piece(told: dict[str, Any], events: int) -> float | None:
    """CPU time for so many events, in µs; None of a target that gave none in all the time."""
    return round(1e6 * events * told["cpu"] / told["events"], 1) if told["events"] else None


def chunks(names: Sequence[str], seconds: float, streams: int = 64, per_second: float = 50.0) -> list[Row]:
    """Streams at an engine's pace: long answers, where a request's own cost does not count, and ordinary ones."""
    lengths = {"long": int(per_second * (seconds + 30)), "ordinary": WORDS}
    with standing([name for name in names if name != "direct"]) as (engine, targets):
        write(engine, "paced", per_second)
        found = {
            answers: load("chunks", targets, {"streams": streams, "seconds": seconds, "max_tokens": words})
            for answers, words in lengths.items()
        }
        return [
            {"part": "chunks", "target": one.name, "streams": streams}
            | {
                name: value
                for answers in lengths
                for name, value in chunks_of(answers, found[answers][one.name])
            }
            for one in targets
        ]


def chunks_of(answers: str, told: dict[str, Any]) -> list[tuple[str, float | None]]:
    """Figures of one target and length of answers."""
    return [
        (f"{answers}_cpu_us", a_piece(told, 1)),
        (f"{answers}_events_per_second", round(told["events"] / told["seconds"], 1)),
        (f"{answers}_failed", told["failed"]),
    ]


def streams(names: Sequence[str], count: int) -> list[Row]:
    """Many open streams, each target fresh: memory that an earlier load left behind would hide what these take."""
    rows = []
    settings = {"streams": count, "max_tokens": 20, "opened_per_second": 400, "within": 90.0}
    for name in names:
        if name == "direct":
            continue
        if name in SLOW:  # 2,000 events a second would take more than its core
            rows.append({"part": "streams", "target": name, "streams": 0})
            continue
        with standing([name]) as (engine, targets):
            write(engine, "paced", 1.0)
            (told,) = load("held", targets, settings).values()
        rows.append(
            {
                "part": "streams",
                "target": name,
                "streams": count,
                "most_open": told["most_open"],
                "errors": told["errors"],
                "refused": told["refused"],
                "kib_a_stream": round((told["peak"] - told["before"]) / 1024 / count, 1),
                "before_mib": round(told["before"] / 2**20, 1),
                "seconds": round(told["seconds"], 1),
            }
        )
    return rows


def share(seconds: float, rounds: int = 4, streams: int = 32) -> list[Row]:
    """Of a real engine's throughput, how much is left behind a gateway. All share all cores, as in a local launch."""
    with tempfile.TemporaryDirectory() as made, ExitStack() as up:
        folder = Path(made)
        folder.chmod(0o755)
        url = up.enter_context(engine_server(folder))
        engine = Target("direct", int(url.rpartition(":")[2]), "base", os.getpid())
        every = Cores(None)
        targets = [
            engine,
            *(up.enter_context(target(name, every, folder, engine)) for name in ("nginx", "heed")),
        ]
        settings = {
            "streams": streams,
            "rounds": rounds,
            "seconds": seconds,
            "settling": 2.0,
            "max_tokens": 64,
            "least": 3,  # events of a whole answer: the starter model can be brief
        }
        found = load("rate", targets, settings)
    alone = found["direct"]["events"] / found["direct"]["seconds"]
    return [
        {
            "part": "share",
            "target": name,
            "streams": streams,
            "events_per_second": round(told["events"] / told["seconds"], 1),
            "share": round(told["events"] / told["seconds"] / alone, 3),
            "failed": told["failed"],
        }
        for name, told in found.items()
    ]


def measure(parts: Sequence[str], names: Sequence[str], requests: int, seconds: float) -> list[Row]:
    """The parts in order."""
    rows: list[Row] = []
    if "added" in parts:
        rows += added(names, requests)
    if "rate" in parts:
        rows += rate(names, rounds=4, seconds=seconds)
    if "chunks" in parts:
        rows += chunks(names, seconds=10.0)
    if "streams" in parts:
        rows += streams(names, count=2000)
    if "share" in parts:
        rows += share(seconds=4 * seconds)
    return rows


def run(arguments: Sequence[str]) -> list[Row]:
    """Parse and measure; a row a part and target."""
    parser = parser_of(__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=TARGETS)
    parser.add_argument("--requests", type=int, default=1000, help="of each target, one at a time")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each of four rounds of 32 streams")
    told = parser.parse_args(arguments)
    peers = [about(name) for name in told.targets if name in PEERS]
    absent = {row["target"] for row in peers if row["part"] == "absent"}
    names = [name for name in told.targets if name not in absent]
    return [*peers, *measure(told.only, names, told.requests, told.seconds)]


def about(peer: str) -> Row:
    """Which version of the peer is measured, or why none is."""
    try:
        return {"part": "version", "target": peer, "version": version(peer)}
    except Absent as error:
        return {"part": "absent", "target": peer, "why": str(error)}


def figures(rows: Sequence[Row]) -> list[Figure]:
    """Heed's figures with the peers' beside them."""
    lines = (
        (
            "added",
            "added to an answer of 34 events, one stream, everything on, p50 (p99; bar 0.3 (2) ms)",
            lambda row: f"{row['added_p50_ms']:.2f} ({row['added_p99_ms']:.2f}) ms",
        ),
        (
            "rate",
            "answers of 34 events a second, 32 streams, one core (CPU time an answer)",
            lambda row: f"{row['per_second']:.0f} ({micros(row['cpu_us'])} µs)",
        ),
        (
            "chunks",
            "CPU time an event, 64 streams at 50 a second (in answers of 34; bar 25 µs)",
            lambda row: f"{micros(row['long_cpu_us'])} ({micros(row['ordinary_cpu_us'])}) µs",
        ),
        (
            "streams",
            "2,000 streams open on one process (bar: 0 errors, 150 KiB each)",
            lambda row: (
                f"{row['errors']} errors, {row['kib_a_stream']:.0f} KiB each"
                if row["streams"]
                else "not tried"
            ),
        ),
        (
            "share",
            "throughput kept in front of a real vLLM engine, 32 streams (bar 0.95)",
            lambda row: f"{row['share']:.2f}",
        ),
    )
    return [line for part, what, shown in lines for line in compared(rows, part, what, shown)]


def micros(found: float | None) -> str:
    """Microseconds, or a dash where no event came to divide by."""
    return "-" if found is None else f"{found:.0f}"


def compared(rows: Sequence[Row], part: str, what: str, shown: Callable[[Row], str]) -> list[Figure]:
    """One line of a part; none when Heed was not measured in it."""
    said = {
        row["target"]: shown(row)
        for row in rows
        if row["part"] == part and row["target"] != "direct" and row.get("writes", "steps") == "steps"
    }
    said |= {row["target"]: "could not be had" for row in rows if row["part"] == "absent"}
    heeds = said.pop("heed", None)
    return (
        [] if heeds is None else [Figure(what, heeds, "; ".join(f"{name} {it}" for name, it in said.items()))]
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped
    for result in run(sys.argv[1:]):
        print(json.dumps(result))
