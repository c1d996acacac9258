"""``python -m training.starter``: tokenizer, corpus, weights, measurement and card, in one command."""

import argparse
import dataclasses
import time
from pathlib import Path

from training.starter.settings import Recipe


def main() -> None:
    """Read the arguments before anything heavy is imported, then build."""
    parser = argparse.ArgumentParser(prog="python -m training.starter", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("deploy/starter"), help="folder to write the model into"
    )
    parser.add_argument(
        "--steps", type=int, default=Recipe.steps, help="training steps; fewer make a worse model"
    )
    parser.add_argument(
        "--samples", type=int, default=Recipe.samples, help="replies to measure, at least 500"
    )
    parser.add_argument(
        "--no-compile", action="store_true", help="train without torch.compile (no C++ compiler)"
    )
    parser.add_argument(
        "--measure-only", action="store_true", help="measure the model that is in --out already"
    )
    arguments = parser.parse_args()
    recipe = dataclasses.replace(
        Recipe(), steps=arguments.steps, samples=arguments.samples, compile=not arguments.no_compile
    )
    if not arguments.measure_only:
        _fit(recipe, arguments.out)
    _measure(recipe, arguments.out)


def _fit(recipe: Recipe, out: Path) -> None:
    """Train with a progress bar, and note in ``training.json`` what it took."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from training.starter import fit, release, vocabulary

    start = time.monotonic()
    tokenizer = vocabulary.learn_tokenizer(recipe)
    model = fit.new_model(recipe, tokenizer)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    smooth: list[float] = []
    with Progress(*columns) as bar:
        task = bar.add_task("training", total=recipe.steps)

        def report(progress: fit.Progress) -> None:
            smooth.append(progress.loss)
            mean = sum(smooth[-50:]) / len(smooth[-50:])
            bar.update(task, completed=progress.step, description=f"training, loss {mean:.3f}")
            if progress.step % 100 == 0:
                bar.console.print(f"step {progress.step}: loss {mean:.4f}, {time.monotonic() - start:.0f} s")

        fit.fit(model, tokenizer, recipe, report, lambda: release.write_model(model, tokenizer, out))
    release.write_training_record(
        recipe, sum(smooth[-50:]) / len(smooth[-50:]), time.monotonic() - start, out
    )


def _measure(recipe: Recipe, out: Path) -> None:
    """Measure the model in ``out``, write figures and card, and print the table."""
    from rich.console import Console
    from rich.markdown import Markdown

    from training.starter import card, measure

    figures = measure.measure(recipe, out)
    card.write(recipe, figures, out)
    Console().print(Markdown(card.table(figures)))


if __name__ == "__main__":
    main()
