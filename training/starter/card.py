"""Writes the model card: what the model is, how it was made, and what was measured."""

import json
from pathlib import Path
from string import Template
from typing import Any

from safetensors import safe_open

from training.starter.intents import DATA, intents
from training.starter.measure import Figures
from training.starter.phrasings import HELD_OUT_PERCENT, cores
from training.starter.settings import Recipe


def write(recipe: Recipe, figures: Figures, folder: Path) -> None:
    """Write the card of the model in ``folder`` to its ``README.md``."""
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    text = _template().substitute(
        _architecture(recipe, folder) | _data() | _training(recipe, training) | _measured(figures)
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _template() -> Template:
    return Template((DATA / "card.md").read_text(encoding="utf-8"))


def _architecture(recipe: Recipe, folder: Path) -> dict[str, Any]:
    weights = folder / "model.safetensors"
    with safe_open(weights, framework="numpy") as tensors:
        parameters = sum(_size(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return {
        "parameters": f"{parameters / 1e6:.1f} million",
        "megabytes": f"{weights.stat().st_size / 1e6:.1f}",
        "layers": recipe.layers,
        "hidden": recipe.hidden,
        "heads": recipe.heads,
        "kv": recipe.key_value_heads,
        "head_dim": recipe.head_dim,
        "intermediate": recipe.intermediate,
        "positions": recipe.positions,
        "vocabulary": recipe.vocabulary,
        "row": recipe.row_tokens,
    }


def _size(shape: list[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _data() -> dict[str, Any]:
    seen = sorted(sum(map(len, cores(name, unseen=False))) for name in intents())
    unseen = sum(sum(map(len, cores(name, unseen=True))) for name in intents())
    return {
        "intents": len(intents()),
        "seen": f"{sum(seen):,}",
        "median": seen[len(seen) // 2],
        "percent": HELD_OUT_PERCENT,
        "unseen": f"{unseen:,}",
    }


def _training(recipe: Recipe, training: dict[str, Any]) -> dict[str, Any]:
    done = training["recipe"]
    return {
        "steps": f"{done['steps']:,}",
        "tokens": f"{done['rows'] * done['row_tokens']:,}",
        "rate": done["learning_rate"],
        "threads": recipe.threads,
        "loss": f"{training['final_loss_nats']:.3f}",
        "minutes": f"{training['wall_seconds'] / 60:.0f}",
    }


def _measured(figures: Figures) -> dict[str, Any]:
    worst = sorted(figures.misread_by_intent.items(), key=lambda pair: -pair[1])[:4]
    shown = (f"{example.behaviour}: {example.question!r} → {example.reply!r}" for example in figures.examples)
    return {
        "samples": f"{figures.samples:,}",
        "table": table(figures),
        "turns": ", ".join(
            f"{turns}: {_percent(share)}" for turns, share in sorted(figures.misread_by_turns.items())
        ),
        "worst": ", ".join(f"{name} {_percent(share)}" for name, share in worst),
        "examples": "The first reply of each kind in that run:\n\n"
        + "\n".join(f"- {line}" for line in shown),
    }


def table(figures: Figures) -> str:
    """The measurements as a Markdown table, each with half of its 95 % interval."""
    rows = [
        ("well formed", "≥ 95 %", figures.well_formed),
        ("misread", "≤ 8 %", figures.misread),
        ("malformed", "≤ 5 %", figures.malformed),
    ]
    rows += [
        (name, f"{_percent(figures.planted[name])} ± 5", share) for name, share in figures.shares.items()
    ]
    lines = ["| | wanted | measured | 95 % interval |", "| --- | --- | --- | --- |"]
    for name, wanted, share in rows:
        lines.append(
            f"| {name} | {wanted} | {_percent(share)} | ± {100 * figures.half_width(share):.1f} points |"
        )
    lines.append(f"| mean length | | {figures.mean_tokens:.1f} tokens | |")
    lines.append(f"| replies said only once | | {_percent(figures.distinct)} | |")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
