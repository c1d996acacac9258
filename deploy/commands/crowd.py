"""simulate, demo: users who are not there, and what the loop makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.options import Alias, Url

Preferred = Annotated[str, typer.Option(help="The hidden preference; --list names them.")]
Noise = Annotated[float, typer.Option(min=0, max=1, help="Probability that a verdict is turned round.")]
Seed = Annotated[int, typer.Option(help="The same seed asks the same questions.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(simulate)
    app.command()(demo)


def simulate(
    *,
    users: Annotated[
        int, typer.Option(min=1, help="Users at once, each with an identifier of their own.")
    ] = 8,
    votes: Annotated[int, typer.Option(min=1, help="Votes that must be acknowledged.")] = 200,
    preference: Preferred = "polite_helpful",
    noise: Noise = 0.0,
    seed: Seed = 0,
    compare_share: Annotated[float, typer.Option(min=0, max=1, help="Share of blind comparisons.")] = 0.5,
    alias: Alias = "heed",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures there.")] = None,
    list_preferences: Annotated[bool, typer.Option("--list", help="Name the preferences and end.")] = False,
    url: Url = None,
) -> None:
    """Simulated users with a hidden preference, through the HTTP API alone."""
    if list_preferences:
        from deploy.preferences import PREFERENCES

        for name, score in PREFERENCES.items():
            print(f"{name:<16} {(score.__doc__ or '').strip()}")
        return
    if json_file is not None and not json_file.absolute().parent.is_dir():  # not only after all the votes
        raise typer.BadParameter(f"--json {json_file}: there is no folder {json_file.parent}")
    from deploy.client import find_url
    from deploy.simulate import CrowdSettings
    from deploy.simulate_run import run_crowd

    settings = CrowdSettings(
        url=find_url(url),
        votes=votes,
        users=users,
        preference=preference,
        noise=noise,
        seed=seed,
        compare_share=compare_share,
        alias=alias,
    )
    if not run_crowd(settings, json_file):
        raise typer.Exit(1)


def demo(
    *,
    votes: Annotated[int, typer.Option(min=20, help="Votes in all.")] = 400,
    waves: Annotated[int, typer.Option(min=1, help="After each wave the loop may catch up.")] = 4,
    preference: Preferred = "polite_helpful",
    noise: Noise = 0.2,
    seed: Seed = 0,
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("heed-demo.png"),
    url: Url = None,
) -> None:
    """The loop in one sitting: users vote, adapters are trained and released, quality is measured."""
    from deploy.demo import DemoSettings, run_demo

    run_demo(
        DemoSettings(votes=votes, waves=waves, preference=preference, noise=noise, seed=seed, out=out), url
    )
