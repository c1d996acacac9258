"""Votes under kill -9 of gateways, store and worker: what was acknowledged against what the batches hold.

    python -m benchmarks.ledger --modes kills frozen full torn --votes 25000 --kills 14 --rate 400

Two real gateways, a real Valkey with `appendfsync always`, a real Celery worker and its beat. Clients repeat each vote
under its Idempotency-Key until it is confirmed, change some and take some back. Meanwhile processes are killed at
random moments, and besides, by mode: `frozen`, the store gets no turn for 60 s; `full`, the disk under the journal, the
spool and the archive is full for a while, three times (a small tmpfs: root alone may mount it); `torn`, gateways are
killed while they spool and the spool ends in half a line. Then everything is started again, and the checker reads both
sides. `--keep` adds each row to the figures on disk, so that a long run can be made in parts.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from benchmarks.accounts.checking import compare, row_of, settled
from benchmarks.accounts.house import GATEWAYS, KILLED, House
from benchmarks.accounts.voters import Told, Voters, serve
from benchmarks.results import Figure, Row, load, parser_of, percentile, save
from feedback.ids import Secrets
from feedback.protocols import AliasRecord
from feedback.registry import RedisRegistry
from feedback.store import connect

DESCRIPTION = "votes under kill -9 of gateways, store and worker: acknowledged against batched"
MODES = ("kills", "frozen", "full", "torn")
DISK = "320m"
FREEZE_AFTER = 5.0  # seconds
WRONG = ("missing", "double", "wrong", "batch_missing", "batch_double", "miscounted")


@contextmanager
def disk(folder: Path, *, small: bool) -> Iterator[Path]:
    """A folder for what must survive; ``small``: a disk of its own that can be filled. Raises
    CalledProcessError where that may not be mounted.
    """
    data = folder / "data"
    data.mkdir()
    if small:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(data)], check=True)
    try:
        yield data
    finally:
        if small:
            subprocess.run(["umount", "--lazy", str(data)], check=True)


def rest(registry: RedisRegistry) -> None:
    """No rounds: this is about votes. A worker or a gateway may have made the alias already."""
    found = {alias.name: alias for alias in registry.aliases()}
    registry.put_alias(replace(found.get("heed", AliasRecord(name="heed")), mode="off"))


def kill_some(house: House, count: int, pause: float, draw: random.Random) -> None:
    """``count`` kills at random moments, ``pause`` seconds apart on average; several may be down at once."""
    begun = []
    for _ in range(count):
        if house.ended.wait(draw.expovariate(1 / pause)):
            break
        name, rest = draw.choice(KILLED), draw.uniform(0, 2)
        begun.append(threading.Thread(target=house.restart, args=(name, rest), daemon=True))
        begun[-1].start()
    for one in begun:
        one.join(120)


def freeze(house: House, seconds: float) -> None:
    """The store gets no turn, once."""
    house.ended.wait(FREEZE_AFTER)
    house.freeze("redis", seconds)


def fill(house: House, seconds: float, times: int = 3) -> None:
    """The disk is full for a while, ``times`` over."""
    ballast = house.data / "ballast"
    for _ in range(times):
        if house.ended.wait(seconds):
            return
        end = time.monotonic() + seconds
        while time.monotonic() < end and not house.ended.is_set():
            with ballast.open("ab") as file:
                _stuff(file.fileno(), psutil.disk_usage(str(house.data)).free)
            time.sleep(0.05)
        ballast.unlink(missing_ok=True)


def _stuff(descriptor: int, size: int) -> None:
    """As many of ``size`` bytes as there is room for."""
    try:
        os.write(descriptor, bytes(size))
    except OSError:
        return


def tear(house: House, seconds: float, times: int = 3) -> None:
    """While the store is down and votes are spooled, gateways are killed, and the spool ends in half a line."""

    def half() -> None:
        with (house.data / "spool" / "events.spool").open("ab") as file:
            file.write(b'0badc0de {"kind":"vote","event_id":"ev-torn","time":1')

    def with_the_store_down() -> None:
        while house.spool.empty and not house.ended.wait(0.05):
            pass
        for name in GATEWAYS:
            house.restart(name, 0.0, half)

    for _ in range(times):
        if house.ended.wait(seconds):
            return
        house.restart("redis", 0.0, with_the_store_down)


def besides(mode: str, house: House, frozen_seconds: float, seconds: float) -> Callable[[], None]:
    """What else befalls the house in this mode."""
    return {
        "kills": lambda: None,
        "frozen": lambda: freeze(house, frozen_seconds),
        "full": lambda: fill(house, max(5.0, seconds)),
        "torn": lambda: tear(house, seconds),
    }[mode]


def befall(
    house: House, served: Sequence[tuple[str, str]], rate: float, faults: Sequence[Callable[[], None]]
) -> Told:
    """Everybody votes while the faults happen; then all runs again and nothing waits."""
    threads = [threading.Thread(target=one, daemon=True) for one in (*faults, house.watch)]
    for thread in threads:
        thread.start()
    told = asyncio.run(Voters(house.urls, rate).run(served))
    house.ended.set()
    for thread in threads:
        thread.join(180)
    house.mend()
    settled(house)
    return told


def measure(
    mode: str, votes: int, kills: int, rate: float, *, seed: int, frozen_seconds: float = 60.0
) -> Row:
    """One house, one crowd, one mode."""
    draw, seconds = random.Random(seed), votes / rate
    with tempfile.TemporaryDirectory() as name, disk(Path(name), small=mode == "full") as data:
        house = House(Path(name), data)
        secrets = Secrets.load(data / "secret")
        try:
            house.open()
            rest(RedisRegistry(connect(house.redis_url)))
            served = serve(house.log, secrets, votes)
            begun = time.monotonic()
            told = befall(
                house,
                served,
                rate,
                [
                    lambda: kill_some(house, kills, 0.8 * seconds / max(1, kills), draw),
                    besides(mode, house, frozen_seconds, seconds / 8),
                ],
            )
            row = row_of(compare(house, told), told, percentile)
            settling = round(time.monotonic() - begun - told.seconds, 1)
            if mode == "frozen":  # it ends with the voting
                row["frozen_seconds"] = round(min(frozen_seconds, told.seconds - FREEZE_AFTER))
        finally:
            house.close()
    return {"mode": mode, "kills": house.kills, **row, "settling_seconds": settling, "seed": seed}


def run(arguments: Sequence[str]) -> list[Row]:
    """Parse and measure; one row a mode."""
    parser = parser_of(__doc__)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--votes", type=int, default=25_000, help="responses voted on, a mode")
    parser.add_argument("--kills", type=int, default=14, help="random kills, a mode")
    parser.add_argument("--rate", type=float, default=300.0, help="votes a second that are begun")
    parser.add_argument("--frozen", type=float, default=60.0, help="seconds the store is frozen")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="add the rows to the figures on disk")
    told, rows = parser.parse_args(arguments), []
    for mode in told.modes:
        began = time.monotonic()
        rows.append(
            measure(mode, told.votes, told.kills, told.rate, seed=told.seed, frozen_seconds=told.frozen)
        )
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        if told.keep:
            former = load("ledger")
            kept = former.rows if former else []
            save("ledger", [*kept, rows[-1]], began - (former.seconds if former else 0.0))
    return rows


def figures(rows: Sequence[Row]) -> list[Figure]:
    """One line a mode."""
    longest = max((row.get("frozen_seconds", 0) for row in rows), default=0)
    names = {
        "kills": "votes acknowledged under kill -9 of gateways, store and worker: missing or double in the batches",
        "frozen": f"the same with the store frozen for {longest} s",
        "full": "the same with the disk full, three times",
        "torn": "the same with a spool that ends in half a line, three times",
    }
    told = []
    for mode in (one for one in MODES if any(row["mode"] == one for row in rows)):
        some = [row for row in rows if row["mode"] == mode]
        said, kills, off = (
            sum(sum(row[name] for name in wanted) for row in some)
            for wanted in (("acknowledged",), ("kills",), WRONG)
        )
        rate = said / sum(row["seconds"] for row in some)
        told.append(Figure(names[mode], f"{off} of {said}", f"{kills} kills, {rate:.0f} votes a second"))
    return told


if __name__ == "__main__":
    for result in run(sys.argv[1:]):
        print(json.dumps(result))
