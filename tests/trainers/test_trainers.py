from __future__ import annotations

import math
from typing import Any

import pytest

from feedback.archive import Archive
from feedback.events import Event
from feedback.export import export
from feedback.protocols import Entry
from tests.contract.making import comparison, response, vote
from tests.trainers import environment

COUNT = 6  # prompts
PAIRS = COUNT - 1 + 1 + 1
"""Each prompt's but the one that was called a tie later, of the ranking the pair that nobody had named, and the
correction."""


def spoken() -> list[Event]:
    """Conversations of one and of several turns, with and without guidelines, in several scripts."""
    events: list[Event] = []
    for n in range(COUNT):
        turns = [{"role": "user", "content": f"Wie geht es dir, «{n}»? 你好 🙂\nSecond line."}]
        if n % 2:
            turns = [{"role": "system", "content": "Be kind."}, *turns]
        if n % 3 == 0:
            turns += [{"role": "assistant", "content": "Well."}, {"role": "user", "content": "And now?"}]
        for side, text in (("a", "I am well, thank you."), ("b", "no"), ("c", '"So-so", as one says.')):
            events.append(response(f"{side}{n}", messages=tuple(turns), text=text))
        events.append(comparison((f"a{n}",), (f"b{n}",), on=f"c{n}", time=200.0 + n))
        events.append(vote(f"a{n}", "up", 300.0 + n))
        events.append(vote(f"b{n}", "down", 300.0 + n, correction=f"Fine, since {n}." if n == 0 else None))
    events.append(comparison(("a0",), ("b0", "c0"), on="ranked", time=400.0))
    events.append(comparison(("a1", "b1"), on="tie", time=400.0))
    return events


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("trainers")
    archive = Archive(folder / "archive")
    archive.write([Entry(f"{n + 1}-0", event) for n, event in enumerate(spoken())])
    for form in ("preference", "binary", "sft"):
        (folder / f"{form}.jsonl").write_bytes(b"".join(export(archive, form)))
    return environment.run(folder, folder)


@pytest.mark.parametrize(
    ("trainer", "rows", "columns"),
    [
        ("DPO", PAIRS, ["chosen", "prompt", "rejected"]),
        ("Reward", PAIRS, ["chosen", "prompt", "rejected"]),
        ("KTO", 2 * COUNT, ["completion", "label", "prompt"]),
        ("SFT", COUNT + 1, ["messages"]),  # what was liked, and the correction
    ],
)
def test_a_trainer_learns_a_step_from_the_export_as_it_was_written(
    told: dict[str, Any], trainer: str, rows: int, columns: list[str]
) -> None:
    came = told[trainer]
    assert (came["rows"], came["kept"], came["columns"]) == (rows, rows, columns)
    assert came["steps"] == 1
    assert math.isfinite(came["loss"])
    assert came["loss"] > 0
