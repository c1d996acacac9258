"""Heed's LoRA fine-tuning, one pass over the replies it is told, as a turn."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

from benchmarks.trainers.programs.turns import Ended, Turns
from training import sft
from training.examples import Demonstration
from training.trunk import Trunk


def main(turns: Turns, folder: Path) -> None:
    """One turn."""
    told = turns.settings
    trunk = Trunk.load(told["model"], threads=told["threads"])
    prompts, replies = told["prompts"], told["replies"]
    shown = [Demonstration(tuple(prompts[place % len(prompts)]), text) for place, text in enumerate(replies)]
    turns.ready()
    minibatch = len(replies) // told["minibatches"]
    sft.fit(
        trunk,
        shown,
        sft.SFTConfig(epochs=1, minibatch=minibatch, learning_rate=told["learning_rate"]),
        out=folder / "adapter",
    )
    turns.stepped(len(replies), sum(len(trunk.tokens(one.messages, one.text).reply) for one in shown))


if __name__ == "__main__":
    with suppress(Ended), tempfile.TemporaryDirectory() as name:
        main(Turns(), Path(name))
