"""Arranged votes: how many bursts of nine kinds are found, how often honest weeks are suspected, and what is lost.

    python -m benchmarks.poison
    python -m benchmarks.poison --seeds 50 --clean 600 --first 760000 --accuracy-seeds
    python -m benchmarks.poison --seeds 0 --clean 0 --accuracy-seeds 10 11 12

The traffic is simulated (``benchmarks.abuse``), the search is the one of a round. A burst counts as found when at
least half of its votes are in quarantine; a false alarm is a run without abuse in which anything is. Thresholds were
chosen on seeds below 1000, and after a look at some from 700000, 710000, 720000 and 730000; the figures are of others.
Accuracy is of real reward models on real batches, with and without the colluders' votes beside the same honest ones:
the differences are paired by seed.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence

from benchmarks.abuse.attacks import KINDS, attacked
from benchmarks.abuse.poisoned import WAYS, poisoned
from benchmarks.abuse.traffic import World, honest
from benchmarks.results import Figure, Row, paired, parser_of
from benchmarks.rounds import Judgement
from feedback.settings import StoreSettings
from training.quarantine import suspicious
from training.trunk import Trunk

DESCRIPTION = (
    "arranged votes: nine kinds of bursts in simulated traffic, false alarms, and what colluders cost"
)
FRESH = 750_000  # the first seed of the figures
TOWNS = range(10, 16)  # seeds of the figures of accuracy
PREFERENCE = "polite_helpful"


def searched(world: World, kind: str, seed: int) -> Row:
    """One run: how many of the planted and of the honest votes are held, and as what."""
    found = suspicious(world.table())
    planted = {one.event_id for one in world.said if one.planted}
    kinds = sorted({reason.partition(":")[0] for reason in found.values()})
    return {
        "part": "bursts", "kind": kind, "seed": seed, "votes": len(world.said), "planted": len(planted),
        "held": len(found), "planted_held": len(planted & found.keys()), "as": kinds,
    }  # fmt: skip


def bursts(kinds: Sequence[str], seeds: int, clean: int, first: int) -> Iterator[Row]:
    """Every kind on as many seeds, then the clean runs."""
    for kind in kinds:
        for seed in range(first, first + seeds):
            yield searched(attacked(kind, seed), kind, seed)
    for seed in range(first, first + clean):
        yield searched(honest(seed), "none", seed)


def run(arguments: Sequence[str]) -> list[Row]:
    """Both parts; a line for each run of the second, and a dot of progress for those of the first."""
    parser = parser_of(__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="runs of each kind")
    parser.add_argument("--clean", type=int, default=400, help="runs without abuse")
    parser.add_argument("--first", type=int, default=FRESH)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--accuracy-seeds", type=int, nargs="*", default=list(TOWNS))
    parser.add_argument("--votes", type=int, default=600)
    parser.add_argument("--threads", type=int, default=2)
    told = parser.parse_args(arguments)
    rows = []
    for row in bursts(told.kinds, told.seeds, told.clean, told.first):
        rows.append(row)
        print("." if row["held"] else "o", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if told.accuracy_seeds:
        trunk = Trunk.load(StoreSettings().model_path, threads=told.threads)
        judgement = Judgement(trunk, 512)
        for seed in told.accuracy_seeds:
            for row in poisoned(trunk, judgement, PREFERENCE, seed, told.votes):
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def figures(rows: Sequence[Row]) -> list[Figure]:
    """All kinds together, each kind, false alarms, and points lost."""
    return [*_bursts([row for row in rows if row["part"] == "bursts"]), *_points(rows)]


def is_found(row: Row) -> bool:
    """At least half of the planted votes are held."""
    return bool(row["planted"] and 2 * row["planted_held"] >= row["planted"])


def _bursts(rows: Sequence[Row]) -> list[Figure]:
    by_kind: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_kind[row["kind"]].append(row)
    clean = by_kind.pop("none", [])
    lines = []
    if by_kind:
        every = [row for runs in by_kind.values() for row in runs]
        each = ", ".join(f"{kind} {sum(map(is_found, runs))}/{len(runs)}" for kind, runs in by_kind.items())
        beside = sum(row["held"] - row["planted_held"] for row in every)
        honest_votes = sum(row["votes"] - row["planted"] for row in every)
        lines.append(
            Figure(
                f"bursts of {len(by_kind)} kinds found (half of their votes held)",
                f"{sum(map(is_found, every))} of {len(every)} ({each})",
                f"{beside / honest_votes:.2%} of the honest votes beside them held",
            )
        )
    if clean:
        alarms = [row for row in clean if row["held"]]
        share = sum(row["held"] for row in clean) / sum(row["votes"] for row in clean)
        lines.append(
            Figure(
                "false alarms: honest runs in which anything is held",
                f"{len(alarms)} of {len(clean)} ({len(alarms) / len(clean):.1%})",
                f"{share:.3%} of all honest votes",
            )
        )
    return lines


def _points(rows: Sequence[Row]) -> list[Figure]:
    lines = []
    for way in WAYS:
        runs = [row for row in rows if row["part"] == "accuracy" and row["way"] == way]
        if runs:
            lost = [100 * (row["clean"] - row["defended"]) for row in runs]
            open_to_all = [100 * (row["clean_undefended"] - row["undefended"]) for row in runs]
            lines.append(
                Figure(
                    f"points of held-out accuracy that 5 % colluding subjects cost, `{way}`",
                    paired(lost),
                    f"undefended {paired(open_to_all)}",
                )
            )
    return lines


if __name__ == "__main__":
    for result in run(sys.argv[1:]):
        print(json.dumps(result))
