"""Replies sampled a second, in the training process and by one engine, a step's worth in turn.

The engine is the one that ``heed up`` starts, with its flags and threads, and nobody else asks it anything; the
process samples on as many threads as it would in a round. Both begin with new weights, as every step of PPO does: the
engine has to load them, the process to merge them. Prompts, answers to each, temperature and longest reply are those
of ``speed``.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.results import Figure, Row
from benchmarks.trainers.speed import Work
from deploy import engine as local
from deploy.settings import LaunchSettings
from tests.servers import answers, free_port, process, wait_until
from training.engine_rollouts import EngineSampler
from training.engines import Engine
from training.rollouts import Rollouts, Sampler
from training.starter.corpus import held_out_prompts
from training.trunk import Trunk

WAYS = ("process", "engine")
KEY = "bench"


def measured(work: Work, folder: Path) -> Iterator[Row]:
    """One row a turn. The first round is for warming up and is not told."""
    settings, port = LaunchSettings(), free_port()
    url, log = f"http://127.0.0.1:{port}", folder / "engine.log"
    command = [sys.executable, "-m", local.module(settings), *local.arguments(port, settings)]
    with ExitStack() as stack:
        stack.enter_context(process(command, log, local.environment(settings, KEY)))
        wait_until(lambda: answers(f"{url}/health"), 600, "the engine", log)
        trunk = Trunk.load(settings.model_path, threads=work.threads)
        trunk.add("policy")
        by_engine = EngineSampler(trunk, [Engine(url, KEY)], folder / "adapters")
        stack.callback(by_engine.close)
        ways: list[tuple[str, Rollouts]] = list(zip(WAYS, (Sampler(trunk), by_engine), strict=True))
        prompts = [one for one in held_out_prompts(work.prompts, seed=3) for _ in range(work.group)]
        for number in range(work.rounds + 1):
            for who, sampler in ways if number % 2 else ways[::-1]:
                row = _turn(sampler, prompts, work, number)
                if by_engine.stood_in:
                    raise RuntimeError(
                        f"{by_engine.stood_in} replies were not the engine's: {log.read_text()[-3000:]}"
                    )
                if number:
                    yield {"part": "rollouts", "round": number, "who": who, **row}


def _turn(sampler: Rollouts, prompts: Sequence[list[dict[str, str]]], work: Work, number: int) -> Row:
    """As many steps' worth as begin within the seconds of a turn; one where the round is for warming up."""
    began, samples, tokens = time.monotonic(), 0, 0
    while not samples or (number and time.monotonic() - began < work.seconds):
        sampler.refresh("policy")
        replies = sampler.sample(prompts, max_tokens=work.max_tokens, seed=number + samples)
        samples += len(replies)
        tokens += sum(len(reply.token_ids) for reply in replies)
    return {"samples": samples, "tokens": tokens / samples, "seconds": time.monotonic() - began}


def figures(rows: Sequence[Row]) -> list[Figure]:
    """One line: in process, and by an engine."""
    rates = {
        who: [row["samples"] / row["seconds"] for row in rows if row["who"] == who] for who in WAYS
    }  # in the order of rounds
    mine, theirs = (rates[who] for who in WAYS)
    if not mine or not theirs:
        return []
    times = [a / b for a, b in zip(mine, theirs, strict=True)]
    length = statistics.mean(row["tokens"] for row in rows)
    return [
        Figure(
            f"replies sampled a second with new weights, in process, 2 cores, {len(times)} turns in turn "
            f"(of {length:.0f} tokens)",
            f"{statistics.median(mine):.1f}",
            f"by one engine {statistics.median(theirs):.1f}: {statistics.median(times):.1f} times as fast, "
            f"{min(times):.1f} to {max(times):.1f} by round",
        )
    ]
