"""SIGKILL at random points of a round's learning: the adapter that comes out has the bytes of one undisturbed.

    python -m benchmarks.kills --kills 50 --runs 30

A run is a process of its own that does in small what a round does: fine-tuning on demonstrations, the fit of the
reward model, and PPO from the fine-tuned adapter, with checkpoints. Every other kill comes at a random moment, the
others as soon as a random one of the run's files is being written. The process is begun anew until it ends.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

from benchmarks.results import Figure, Row, parser_of, save
from feedback.settings import StoreSettings
from tests.unit.training.tiny import save_tiny

DESCRIPTION = "50 SIGKILLs at random points of learning: the bytes of the adapter that comes out"
POLL_SECONDS = 0.001
MOST_SECONDS = 300.0
"""Of one process, before the benchmark gives it up."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def learning(model: str, folder: Path, seed: int, steps: int) -> None:
    """The adapter of ``seed`` into ``folder/adapter``, by way of what a killed process left there."""
    from training import ppo, sft
    from training.ppo_config import PPOConfig
    from training.reward_model import RewardConfig, fit
    from training.trunk import Trunk

    trunk = Trunk.load(model, threads=2, device="cpu")
    examples = votes(seed)
    sft.fit(trunk, examples.demonstrations, sft.SFTConfig(epochs=1), out=folder / "sft")
    reward, _ = fit(trunk, examples, RewardConfig(iterations=20), out=folder / "reward")
    config = PPOConfig(
        max_steps=steps, max_seconds=1e9, prompts=8, group=3, minibatch=4, max_tokens=24, epochs=2,
        value_warmup=1, checkpoint_steps=2, supervised=0.1, max_base_kl=1e9, max_kl=1e9, min_variety=0.0,
        seed=seed,
    )  # fmt: skip
    ppo.train(
        trunk,
        [list(prompt) for prompt in examples.prompts],
        ppo.pessimistic(reward, config.pessimism),
        config,
        start=folder / "sft",
        out=folder / "adapter",
        checkpoint=folder / "ppo",
        demonstrations=[trunk.tokens(one.messages, one.text) for one in examples.demonstrations],
    )


def votes(seed: int) -> Any:
    """Comparisons whose winners have letters of the alphabet's first half, and some of the winners to learn from."""
    from training.examples import Demonstration, Examples, Pair

    rng = random.Random(f"kills {seed}")

    def said(letters: str) -> str:
        return "".join(rng.choice(letters) for _ in range(rng.randint(4, 12)))

    pairs = []
    for number in range(40):
        prompt = ({"role": "user", "content": f"question {number}"},)
        pairs.append(Pair(prompt, said(LETTERS[:13]), said(LETTERS[13:]), "win"))
    shown = [Demonstration(pair.messages, pair.a) for pair in pairs[:12]]
    return Examples(pairs, (), shown, [pair.messages for pair in pairs])


def digest(adapter: Path) -> str:
    """SHA-256 over the names and bytes of an adapter's files."""
    told = hashlib.sha256()
    for file in sorted(adapter.iterdir()):
        told.update(file.name.encode() + b"\0" + file.read_bytes())
    return told.hexdigest()


def processes() -> ForkServerContext:
    """Where runs are started: a server that has imported the trainer and computed nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.kills", "training.ppo", "training.sft"])
    return context


class Runs:
    """Runs of one model, undisturbed and disturbed. Context manager: what it started does not outlive it."""

    def __init__(self, model: str, root: Path, steps: int) -> None:
        self._model, self._root, self._steps = model, root, steps
        self._context = processes()
        self._alive: BaseProcess | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._alive is not None and self._alive.is_alive():
            self._alive.kill()
            self._alive.join()

    def whole(self, seed: int) -> tuple[str, float]:
        """The digest of an undisturbed run, and the seconds it took."""
        folder, began = self._root / f"whole-{seed}", time.monotonic()
        self._to_the_end(folder, seed)
        return digest(folder / "adapter"), time.monotonic() - began

    def disturbed(self, name: str, seed: int, kills: int, seconds: float, rng: random.Random) -> Row:
        """A run that is killed up to ``kills`` times within ``seconds`` each, and what came of it."""
        folder, struck = self._root / name, list[Row]()
        for number in range(kills):
            if (found := self._killed(folder, seed, seconds, rng, writing=number % 2 == 1)) is None:
                break  # it had ended before
            struck.append(found)
        self._to_the_end(folder, seed)
        return {"run": name, "seed": seed, "kills": struck, "sha256": digest(folder / "adapter")}

    def _start(self, folder: Path, seed: int) -> BaseProcess:
        self._alive = self._context.Process(
            target=learning, args=(self._model, folder, seed, self._steps), daemon=True
        )
        self._alive.start()
        return self._alive

    def _to_the_end(self, folder: Path, seed: int) -> None:
        process = self._start(folder, seed)
        process.join(MOST_SECONDS)
        if process.exitcode != 0:
            raise RuntimeError(f"a run of seed {seed} ended with {process.exitcode}, 0 is right")

    def _killed(
        self, folder: Path, seed: int, seconds: float, rng: random.Random, *, writing: bool
    ) -> Row | None:
        """Start, wait, kill; where it struck. None when the run had ended by then."""
        process, began = self._start(folder, seed), time.monotonic()
        due = self._draft(folder, rng) if writing else self._moment(began + rng.uniform(0, seconds))
        while process.is_alive() and not due():
            time.sleep(POLL_SECONDS)
        process.kill()
        process.join()
        if process.exitcode == 0:
            return None
        return {"seconds": round(time.monotonic() - began, 3), **struck_at(folder)}

    @staticmethod
    def _moment(when: float) -> Callable[[], bool]:
        return lambda: time.monotonic() >= when

    def _draft(self, folder: Path, rng: random.Random) -> Callable[[], bool]:
        """Whether so many drafts have been seen in the folder of checkpoints; a run of n steps writes about 2n."""
        wanted, seen = rng.randint(1, max(1, 3 * self._steps // 2)), set[str]()

        def due() -> bool:
            seen.update(drafts(folder))
            return len(seen) >= wanted

        return due


def drafts(folder: Path) -> list[str]:
    """Files of the run's checkpoints that are being written, or were when it was killed."""
    return [path.name for path in (folder / "ppo").glob(".*.tmp")]


def struck_at(folder: Path) -> Row:
    """What a kill left: the newest checkpoint's step, and whether a file was being written."""
    steps = [int(path.stem) for path in (folder / "ppo").glob("[0-9]*.json")]
    return {"after_step": max(steps, default=0), "writing": bool(drafts(folder))}


def series(model: str, root: Path, *, kills: int, runs: int, seeds: int, steps: int) -> Iterator[Row]:
    """``kills`` kills over about ``runs`` runs; one row a run."""
    rng = random.Random(f"moments {kills} {runs}")
    with Runs(model, root, steps) as started:
        whole = {seed: started.whole(seed) for seed in range(seeds)}
        given, number = 0, 0
        while given < kills:
            seed = number % seeds
            wanted, seconds = whole[seed]
            due = min(kills - given, rng.randint(1, max(1, round(2 * kills / runs) - 1)))
            row = started.disturbed(f"run-{number}", seed, due, seconds, rng)
            given, number = given + len(row["kills"]), number + 1
            yield {**row, "same": row["sha256"] == wanted, "undisturbed_seconds": round(seconds, 2)}


def run(arguments: Sequence[str]) -> list[Row]:
    """One row a run."""
    parser = parser_of(__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument(
        "--model",
        choices=["starter", "tiny"],
        default="starter",
        help="tiny: random weights, some 20,000 of them, for a machine that is busy",
    )
    parser.add_argument("--keep", action="store_true", help="also write results/")
    told, began = parser.parse_args(arguments), time.monotonic()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = StoreSettings().model_path if told.model == "starter" else str(save_tiny(root / "model"))
        for row in series(
            model, root, kills=told.kills, runs=told.runs, seeds=told.seeds,
            steps=told.steps,
        ):  # fmt: skip
            rows.append({**row, "model": told.model})
            print(rows[-1], file=sys.stderr, flush=True)
    if told.keep:
        save("kills", rows, began, arguments)
    return rows


def figures(rows: Sequence[Row]) -> list[Figure]:
    """How many kills and how many of the runs that were killed gave an adapter of other bytes."""
    killed = [row for row in rows if row["kills"]]  # others ended before their moment came: they show nothing
    kills = [kill for row in killed for kill in row["kills"]]
    writing = sum(kill["writing"] for kill in kills)
    other, models = (
        sum(not row["same"] for row in killed),
        " and ".join(sorted({row["model"] for row in rows})),
    )
    return [
        Figure(
            f"SIGKILLs of learning at random points ({models} model), {writing} within the write of a checkpoint",
            f"{len(kills)}: {other} of {len(killed)} adapters with other bytes",
            "none wanted",
        )
    ]


if __name__ == "__main__":
    run(sys.argv[1:])
