"""The gate on planted adapters: eight kinds of bad ones, good ones, and ones that are no better than the served.

    python -m benchmarks.gate --preference polite_helpful --seed 0 --each 3 --nulls 20

For each preference and seed, votes with noise lead to a reward model, a judge and an adapter, as in a round. Of that
adapter bad ones are made (``benchmarks/gating``), and each meets the gate twice: served is the base, and served is the
good adapter. Good ones are the adapter itself and one at four fifths of its strength, over the base. Under the null
the adapter meets a copy of itself, on prompts of which every reply is drawn anew. What each is really worth, by the
hidden preference over the base on prompts that no training saw, stands beside the verdict.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gating.planted import KINDS, Ground, planted, weakened
from benchmarks.results import Figure, Row, parser_of, save
from benchmarks.rounds import THREE, Judgement, Silent, Voters
from deploy.preferences import PREFERENCES
from feedback.settings import StoreSettings
from training.gate import examine
from training.learning import gate_prompts, learn
from training.reward_model import RewardModel
from training.settings import TrainingSettings
from training.trunk import Trunk

DESCRIPTION = (
    "the gate on planted adapters: eight kinds of bad ones, good ones, and ones no better than the served"
)
NAME = "gate"


@dataclass(frozen=True)
class World:
    """One round's votes, models and adapter."""

    ground: Ground
    judge: RewardModel
    prompts: Sequence[list[dict[str, str]]]
    settings: TrainingSettings
    name: str  # of the preference
    seed: int

    def met(self, part: str, kind: str, adapter: Path, served: Path | None, seed: int) -> Row:
        """The gate's verdict on an adapter."""
        began = time.monotonic()
        told = examine(
            self.ground.trunk, adapter, served, self.judge, self.prompts, self.settings, seed=1000 * seed + 7
        )
        return {
            "part": part, "kind": kind, "preference": self.name, "seed": self.seed, "of": seed,
            "served": "base" if served is None else "adapter", "passed": told.passed,
            "failed": [check.check for check in told.checks if check.verdict == "failed"],
            "values": {check.check: round(check.value, 4) for check in told.checks},
            "seconds": round(time.monotonic() - began, 1),
        }  # fmt: skip


def world(trunk: Trunk, name: str, seed: int, votes: int, noise: float, folder: Path) -> World | None:
    """A round as the worker runs it; None when it made no adapter."""
    settings = TrainingSettings(ppo_seconds=3600.0)
    voters = Voters(trunk, name, noise, seed, settings.holdout_share)
    voters.vote(None, votes)
    learned = learn(
        trunk, voters.examples, None, settings,
        work=folder, rewards=folder / "reward", seed=votes, watcher=Silent(),
    )  # fmt: skip
    if learned.adapter is None:
        return None
    model, judge = (RewardModel.load(trunk, folder / part) for part in ("reward", "reward/judge"))
    ground = Ground(trunk, learned.adapter, model, voters.examples.prompts)
    asked = gate_prompts(voters.examples, settings.gate_prompts)
    return World(ground, judge, asked, settings, name, seed)


def measured(one: World, judgement: Judgement, kinds: Sequence[str], each: int, nulls: int) -> Iterator[Row]:
    """Good ones, the null, and every kind."""
    good, folder = one.ground.good, one.ground.good.parent
    for number, adapter in enumerate((good, weakened(one.ground, 0.8, folder / "weakened"))):
        worth = judgement.win_rate(one.name, adapter)
        yield one.met("good", "good", adapter, None, number) | {"win_rate": worth}
    for number in range(nulls):
        yield one.met("null", "null", good, good, 100 + number)
    for kind in kinds:
        for number in range(each):
            bad = planted(kind, one.ground, 10 * one.seed + number, folder / f"{kind} {number}")
            worth = judgement.win_rate(one.name, bad)
            for served in (None, good):
                yield one.met("bad", kind, bad, served, 200 + number) | {"win_rate": worth}


def run(arguments: Sequence[str]) -> list[Row]:
    """Every preference with every seed; one row a verdict, each printed as it comes."""
    parser = parser_of(__doc__)
    parser.add_argument("--preference", nargs="+", default=THREE, choices=list(PREFERENCES))
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--each", type=int, default=2, help="adapters of a kind, preference and seed")
    parser.add_argument("--nulls", type=int, default=20, help="of a preference and seed")
    parser.add_argument("--votes", type=int, default=300)
    parser.add_argument("--noise", type=float, default=0.2)
    parser.add_argument("--held-out", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="also write results/")
    told, began = parser.parse_args(arguments), time.monotonic()
    trunk = Trunk.load(StoreSettings().model_path, threads=told.threads)
    judgement = Judgement(trunk, told.held_out)
    rows = []
    for name in told.preference:
        for seed in told.seed:
            with tempfile.TemporaryDirectory() as folder:
                made = world(trunk, name, seed, told.votes, told.noise, Path(folder))
                if made is None:
                    print(f"{name}, seed {seed}: too little to tell, no adapter", file=sys.stderr)
                    continue
                for row in measured(made, judgement, told.kinds, told.each, told.nulls):
                    rows.append(row)
                    print(json.dumps(row), flush=True)
    if told.keep:
        save(NAME, rows, began)
    return rows


def figures(rows: Sequence[Row]) -> list[Figure]:
    """Bad ones blocked, kind by kind; good ones and the null passed."""
    bad = [row for row in rows if row["part"] == "bad"]
    kinds = Counter(row["kind"] for row in bad)
    blocked = Counter(row["kind"] for row in bad if not row["passed"])
    each = ", ".join(f"{kind} {blocked[kind]}/{count}" for kind, count in kinds.items())
    lines = []
    if bad:
        what = f"bad adapters of {len(kinds)} planted kinds blocked by the gate"
        lines.append(
            Figure(what, f"{blocked.total()} of {len(bad)} ({blocked.total() / len(bad):.1%})", each)
        )
    for part, what in (
        ("good", "good adapters passed"),
        ("null", "adapters no better than the served passed"),
    ):
        told = [row for row in rows if row["part"] == part]
        if told:
            passed = sum(row["passed"] for row in told)
            lines.append(Figure(f"{what} by the gate", f"{passed} of {len(told)} ({passed / len(told):.1%})"))
    return lines


if __name__ == "__main__":
    for line in figures(run(sys.argv[1:])):
        print(line.what, "|", line.heed, "|", line.beside)
