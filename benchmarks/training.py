"""Heed's trainers beside TRL's, on the same base and the same 2 cores, in one run.

    python -m benchmarks.training --parts speed --keep
    python -m benchmarks.training --parts reward --keep
    python -m benchmarks.training --parts memory --keep
    python -m benchmarks.training --parts rollouts --keep
    python -m benchmarks.training --parts processes --keep
    python -m benchmarks.training --parts gold --keep

speed     samples a second of a whole step of PPO and RLOO: ``benchmarks/trainers/speed.py``
reward    the reward model on equal votes beside RewardTrainer: ``benchmarks/trainers/reward.py``
memory    the largest memory of PPO beside LoRA fine-tuning: ``benchmarks/trainers/memory.py``
rollouts  replies sampled a second, in process and by an engine: ``benchmarks/trainers/rollouts.py``
processes samples a second of two processes beside one: ``benchmarks/trainers/processes.py``
gold      what is gained for how far from the base, and in what time: ``benchmarks/trainers/gold.py``

Each peer is in an environment of its own, made when it is missing. What was equal and what could not be stands
in the module of the part.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.results import Figure, Row, commit, described, load, machine, parser_of, save
from benchmarks.trainers import gold, memory, processes, reward, rollouts, speed
from deploy.preferences import PREFERENCES

DESCRIPTION = "Heed's trainers beside TRL's: samples a second, reward models on equal votes, memory"
PARTS = ("speed", "reward", "memory", "rollouts", "processes", "gold")
NAME = "training"


def run(arguments: Sequence[str]) -> list[Row]:
    """The parts that are named, each row printed as it comes. A part's first row says when, where and of what."""
    told, began, rows = _parsed(arguments), time.monotonic(), list[Row]()
    with tempfile.TemporaryDirectory() as name:
        for part in told.parts:
            today, here = time.strftime("%Y-%m-%d", time.gmtime()), described(machine())
            rows.append({"part": part, "of": commit(), "date": today, "machine": here})
            for row in _measured(part, told, Path(name)):
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
    if told.keep:
        save(NAME, beside(rows, before.rows if (before := load(NAME)) else []), began)
    return rows


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    work, trial, climb = speed.Work(), reward.Trial(), gold.Climb()
    parser = parser_of(__doc__)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument(
        "--keep", action="store_true", help="also write results/, beside the parts not run now"
    )
    one = parser.add_argument_group("speed, rollouts and processes")
    one.add_argument("--rounds", type=int, default=work.rounds)
    one.add_argument("--seconds", type=float, default=work.seconds, help="of a turn")
    one.add_argument("--prompts", type=int, default=work.prompts, help="of a step")
    one.add_argument("--tokens", type=int, default=work.max_tokens, help="of the longest reply")
    one.add_argument("--threads", type=int, default=work.threads)
    one.add_argument("--only", nargs="+", default=list(work.only), choices=work.only)
    two = parser.add_argument_group("reward")
    two.add_argument("--preference", nargs="+", default=list(trial.preferences), choices=list(PREFERENCES))
    two.add_argument("--seed", type=int, nargs="+", default=list(trial.seeds))
    two.add_argument("--votes", type=int, nargs="+", default=list(trial.votes))
    two.add_argument(
        "--rates",
        type=float,
        nargs="*",
        default=list(trial.rates),
        help="none: Heed alone, beside RewardTrainer's kept rows of the same votes",
    )
    two.add_argument("--held-out", type=int, default=trial.held_out)
    three = parser.add_argument_group("gold")
    three.add_argument("--climb-preference", default=climb.preference, choices=list(PREFERENCES))
    three.add_argument("--climb-seeds", type=int, nargs="+", default=list(climb.seeds))
    three.add_argument("--climb-steps", type=int, default=climb.steps)
    three.add_argument("--climb-who", nargs="+", default=list(climb.only), choices=gold.WHO)
    three.add_argument("--climb-rates", type=float, nargs="+", default=list(climb.rates))
    three.add_argument("--climb-betas", type=float, nargs="+", default=list(climb.betas))
    three.add_argument(
        "--climb-rows", type=Path, help="file to which rows go; its whole runs are not done again"
    )
    return parser.parse_args(arguments)


def _measured(part: str, told: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """The rows of a part."""
    work = speed.Work(
        rounds=told.rounds, seconds=told.seconds, prompts=told.prompts, max_tokens=told.tokens,
        threads=told.threads, only=tuple(told.only),
    )  # fmt: skip
    if part == "speed":
        return speed.measured(work, folder)
    if part == "memory":
        return memory.measured(memory.Size(), work, folder)
    if part == "rollouts":
        return rollouts.measured(work, folder)
    if part == "processes":
        return processes.measured(work, folder)
    if part == "gold":
        climb = gold.Climb(
            preference=told.climb_preference, seeds=tuple(told.climb_seeds), steps=told.climb_steps,
            only=tuple(told.climb_who), rates=tuple(told.climb_rates), betas=tuple(told.climb_betas),
            rows=told.climb_rows,
        )  # fmt: skip
        return gold.measured(climb, work, folder)
    trial = reward.Trial(
        preferences=tuple(told.preference), seeds=tuple(told.seed), votes=tuple(told.votes),
        rates=tuple(told.rates), held_out=told.held_out,
    )  # fmt: skip
    return reward.measured(trial, folder)


def beside(rows: Sequence[Row], before: Sequence[Row]) -> list[Row]:
    """``rows``, and of an earlier run those of other parts and a peer's that stand beside them, with its commit."""
    parts = {row["part"] for row in rows}
    of = {row["part"]: row["of"] for row in before if "of" in row and "who" not in row}
    still = [{**row, "of": row.get("of", of.get(row["part"]))} for row in before if reward.stands(row, rows)]
    return [*rows, *still, *(row for row in before if row["part"] not in parts)]


def figures(rows: Sequence[Row]) -> list[Figure]:
    """Each part's lines, of the machine that it was measured on."""
    of = {
        "speed": speed.figures,
        "reward": reward.figures,
        "memory": memory.figures,
        "rollouts": rollouts.figures,
        "processes": processes.figures,
        "gold": gold.figures,
    }
    where = {row["part"]: row.get("machine", "") for row in rows if "who" not in row}
    return [
        replace(line, machine=where.get(part, ""))
        for part, lines in of.items()
        for line in lines([row for row in rows if "who" in row and row["part"] == part])
    ]
