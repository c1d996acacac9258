"""How much a trainer gains for how far it leaves the base, and how fast.

Every trainer climbs the same reward: a preference's own score of the text, so that what differs is the optimiser
alone. After each step its adapter, a stock PEFT folder whoever wrote it, is held against the base by one outside
evaluator: replies to prompts in wordings that nothing was trained on, what the preference gives them, and how many
nats a reply they are from the base. Work, prompts, lengths and LoRA are equal, as in ``speed``; learning rate and β are
tried in pairs on the first seed, for each trainer alike, and the other seeds get each trainer's best.

gold     the gain at so many nats from the base, of the way from the base's mean to the best of sixteen of its replies;
         between two steps by a straight line
seconds  of training alone, the evaluator's left out, to four fifths of that way

A run ends when it has all its steps or is past the last number of nats.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.results import Figure, Row, paired, processor
from benchmarks.trainers.children import child, python_of
from benchmarks.trainers.speed import CONTENDERS, NAMES, Contender, Work
from deploy.preferences import PREFERENCES
from deploy.quality import held_out
from feedback.events import Message
from feedback.settings import StoreSettings
from training.gate import divergence
from training.rollouts import Reply, Sampler
from training.starter.corpus import dialogs
from training.trunk import Trunk

NATS = (1.0, 2.0, 5.0, 10.0)
SHARE = 0.8  # of the way to the best of sixteen, whose seconds are told
BEST_OF = 16
WHO = ("heed-ppo", "heed-rloo", "trl-ppo", "trl-rloo")
PEERS = ("trl-ppo", "trl-rloo")


@dataclass(frozen=True)
class Climb:
    """What is tried."""

    preference: str = "polite_helpful"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    rates: tuple[float, ...] = (2e-3, 4e-3)
    betas: tuple[float, ...] = (0.05, 0.2)
    steps: int = 16
    prompts: int = 512  # to practise on
    held_out: int = 256
    only: tuple[str, ...] = WHO
    rows: Path | None = None  # to which rows go, and whose whole runs are not done again


@dataclass(frozen=True)
class Tried:
    """One run's settings."""

    who: str
    seed: int
    rate: float
    beta: float


class Evaluator:
    """What a preference makes of an adapter's replies, and their distance from the base."""

    def __init__(self, trunk: Trunk, climb: Climb) -> None:
        self._trunk, self._score = trunk, PREFERENCES[climb.preference]
        self._prompts = [[dict(one) for one in messages] for messages in held_out(climb.held_out, seed=11)]
        sixteen = [one for one in self._prompts for _ in range(BEST_OF)]
        golds = self._golds(sixteen, Sampler(trunk).sample(sixteen, seed=5))
        self.base, self.scale = statistics.mean(golds), statistics.stdev(golds)
        best = [max(golds[begin : begin + BEST_OF]) for begin in range(0, len(golds), BEST_OF)]
        self.best = statistics.mean(best)

    def told(self, adapter: Path) -> Row:
        """Gain in parts of the way to the best of sixteen, and nats a reply."""
        replies = Sampler(self._trunk, adapter).sample(self._prompts, seed=29)
        gold = statistics.mean(self._golds(self._prompts, replies))
        return {
            "gold": gold,
            "gain": (gold - self.base) / (self.best - self.base),
            "nats": divergence(self._trunk, replies),
            "tokens": statistics.mean(len(reply.token_ids) for reply in replies),
        }

    def _golds(self, prompts: Sequence[Sequence[Message]], replies: Sequence[Reply]) -> list[float]:
        return [self._score(m[-1]["content"], one.text) for m, one in zip(prompts, replies, strict=True)]


def measured(climb: Climb, work: Work, folder: Path) -> Iterator[Row]:
    """A row a step of each run; seed by seed, so that all meet the machine's moods alike."""
    trunk = Trunk.load(StoreSettings().model_path, threads=work.threads)
    evaluator, rows = Evaluator(trunk, climb), list[Row]()
    for seed in climb.seeds:
        for one in (contender for contender in CONTENDERS if contender.name in climb.only):
            for rate, beta in chosen(rows, one.name, climb):
                tried = Tried(one.name, seed, rate, beta)
                run = kept(climb, tried) or list(_run(one, tried, climb, work, evaluator, folder))
                rows += run
                yield from run


def chosen(rows: Sequence[Row], who: str, climb: Climb) -> list[tuple[float, float]]:
    """Rates and βs of the next seed's runs: all of them at first, then the pair with the highest mean gain over the
    numbers of nats, in which one that was not reached counts what was gained before it.
    """
    runs = runs_of([row for row in rows if row["who"] == who and row["seed"] == climb.seeds[0]])
    if not runs:
        return [(rate, beta) for rate in climb.rates for beta in climb.betas]
    best = max(runs, key=lambda tried: statistics.mean(gain_by(runs[tried], nats) for nats in NATS))
    return [(best.rate, best.beta)]


def _run(
    one: Contender, tried: Tried, climb: Climb, work: Work, evaluator: Evaluator, folder: Path
) -> Iterator[Row]:
    stream = dialogs(3000 + tried.seed)
    settings = work.settings() | {
        "prompts": _different(climb.prompts, stream),
        "learning_rate": tried.rate,
        "beta": tried.beta,
        "seed": tried.seed,
        "reward": {"preference": climb.preference, "middle": evaluator.base, "scale": evaluator.scale},
    }
    samples, seconds = 0, 0.0
    log = folder / f"{one.name}.log"
    with (
        tempfile.TemporaryDirectory() as out,
        child(python_of(one.environment), one.program, log, work.threads) as made,
    ):
        made.ask(**settings, **one.told)
        for step in range(1, climb.steps + 1):
            adapter = Path(out) / str(step)
            told = made.ask(seconds=0.0, adapter=str(adapter))
            samples, seconds = samples + told["samples"], seconds + told["seconds"]
            row = {
                "part": "gold",
                **vars(tried),
                "preference": climb.preference,
                "of_steps": climb.steps,
                "step": step,
            }
            row |= {"samples": samples, "seconds": round(seconds, 2), "cpu": processor()}
            row |= evaluator.told(adapter)
            if climb.rows is not None:
                with climb.rows.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            yield row
            if row["nats"] > NATS[-1]:
                return


def _different(count: int, stream: Iterator[Any]) -> list[list[Message]]:
    """So many prompts, no two alike: programs know them by their words."""
    found: dict[str, list[Message]] = {}
    while len(found) < count:
        prompt = list(next(stream)[:-1])
        found.setdefault(json.dumps(prompt), prompt)
    return list(found.values())


def kept(climb: Climb, tried: Tried) -> list[Row]:
    """The run's rows that an earlier call wrote down whole; none when it did not."""
    if climb.rows is None or not climb.rows.exists():
        return []
    same = vars(tried) | {"preference": climb.preference, "of_steps": climb.steps}
    rows = [
        row
        for row in map(json.loads, climb.rows.read_text().splitlines())
        if all(row[key] == value for key, value in same.items())
    ]
    ended = [place for place, row in enumerate(rows) if row["step"] == climb.steps or row["nats"] > NATS[-1]]
    return rows[ended[-1] - rows[ended[-1]]["step"] + 1 : ended[-1] + 1] if ended else []


def runs_of(rows: Sequence[Row]) -> dict[Tried, list[Row]]:
    """Rows of each run, step by step."""
    runs: dict[Tried, list[Row]] = {}
    for row in rows:
        runs.setdefault(Tried(row["who"], row["seed"], row["rate"], row["beta"]), []).append(row)
    return {tried: sorted(ones, key=lambda row: int(row["step"])) for tried, ones in runs.items()}


def gain_at(run: Sequence[Row], nats: float) -> float | None:
    """The gain where a run first is so many nats from the base; None where it never is."""
    path = [{"nats": 0.0, "gain": 0.0}, *run]
    for before, after in pairwise(path):
        if before["nats"] <= nats <= after["nats"]:
            part = (nats - before["nats"]) / max(1e-9, after["nats"] - before["nats"])
            return float(before["gain"] + part * (after["gain"] - before["gain"]))
    return None


def gain_by(run: Sequence[Row], nats: float) -> float:
    """The same; where a run never is so far, the most that it gained."""
    found = gain_at(run, nats)
    return max(float(row["gain"]) for row in run) if found is None else found


def seconds_to(run: Sequence[Row], share: float) -> float | None:
    """Seconds of training until the gain is that share of the way; None where it never is."""
    return next((float(row["seconds"]) for row in run if row["gain"] >= share), None)


def best_runs(rows: Sequence[Row], who: str) -> list[list[Row]]:
    """The runs of the settings that were taken: those of the last seed, on every seed."""
    runs = runs_of([row for row in rows if row["who"] == who])
    if not runs:
        return []
    last = max(tried.seed for tried in runs)
    takes = {(tried.rate, tried.beta) for tried in runs if tried.seed == last}
    return (
        [run for tried, run in runs.items() if (tried.rate, tried.beta) in takes] if len(takes) == 1 else []
    )


def figures(rows: Sequence[Row]) -> list[Figure]:
    """Two lines for each of Heed's ways: the gain by nats, and the seconds."""
    lines = []
    for ours in ("heed-ppo", "heed-rloo"):
        mine = best_runs(rows, ours)
        theirs = {peer: runs for peer in PEERS if (runs := best_runs(rows, peer))}
        if not mine or not theirs:
            continue
        way = f"{NAMES[ours]} ({_settings(mine)}), `{mine[0][0]['preference']}` as the reward"
        nats = ", ".join(f"{one:g}" for one in NATS)
        lines.append(
            Figure(
                f"gain at {nats} nats a reply from the base, of the way to the best of {BEST_OF}, by {way}",
                _gains(mine),
                "; ".join(_beside(mine, peer, runs) for peer, runs in theirs.items()),
            )
        )
        lines.append(
            Figure(
                f"seconds of training to {SHARE:.0%} of the way to the best of {BEST_OF}, 2 cores, by {way}",
                _seconds(mine),
                "; ".join(f"{NAMES[peer]} {_seconds(runs)}" for peer, runs in theirs.items())
                + "; bar: half of the better peer's"
                + _where(mine),
            )
        )
    return lines


def _settings(runs: Sequence[Sequence[Row]]) -> str:
    seeds = f"{len(runs)} seed" + "s" * (len(runs) > 1)
    return f"rate {runs[0][0]['rate']:g}, β {runs[0][0]['beta']:g}, {seeds}"


def _where(runs: Sequence[Sequence[Row]]) -> str:
    """The processors, where seeds were not all run on one; a seed's runs are, so what is beside them was, too."""
    by_cpu: dict[str, list[str]] = {}
    for run in runs:
        by_cpu.setdefault(run[0].get("cpu", ""), []).append(str(run[0]["seed"]))
    told = [f"seeds {', '.join(seeds)} on {cpu}" for cpu, seeds in by_cpu.items()]
    return "; " + "; ".join(told) if len(told) > 1 else ""


def _gains(runs: Sequence[Sequence[Row]]) -> str:
    return ", ".join(_share([gain_at(run, nats) for run in runs]) for nats in NATS)


def _share(gains: Sequence[float | None]) -> str:
    """Mean of the runs that were so far; how many where not all were."""
    told = [one for one in gains if one is not None]
    if not told:
        return "not so far"
    return f"{statistics.mean(told):.0%}" + (
        "" if len(told) == len(gains) else f" ({len(told)} of {len(gains)} runs)"
    )


def _beside(mine: Sequence[Sequence[Row]], peer: str, theirs: Sequence[Sequence[Row]]) -> str:
    """A peer's gains, and Heed's less these by seed, in points."""
    by_seed = {run[0]["seed"]: run for run in theirs}
    differences = []
    for nats in NATS:
        both = [
            (gain_at(run, nats), gain_at(by_seed[run[0]["seed"]], nats))
            for run in mine
            if run[0]["seed"] in by_seed
        ]
        points = [100 * (a - b) for a, b in both if a is not None and b is not None]
        differences.append(paired(points) if points else "none")
    return f"{NAMES[peer]} ({_settings(theirs)}) {_gains(theirs)}: points less {', '.join(differences)}"


def _seconds(runs: Sequence[Sequence[Row]]) -> str:
    """Median over the runs; "never" where less than half came so far."""
    told = sorted(float("inf") if (one := seconds_to(run, SHARE)) is None else one for run in runs)
    middle = statistics.median_low(told)
    return (
        "never"
        if middle == float("inf")
        else f"{middle:.0f} s ({sum(one < float('inf') for one in told)} of {len(runs)} runs)"
    )
