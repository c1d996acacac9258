"""annotations: raters, and how far they agree."""

from __future__ import annotations

import typer

from deploy.commands.options import Alias, AsJson, Url

rating = typer.Typer(help="What raters say.", no_args_is_help=True, rich_markup_mode=None)

COLUMNS = ("name", "items", "shared", "agreement", "reliability")


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(rating, name="annotations")


@rating.command()
def raters(alias: Alias = "heed", as_json: AsJson = False, url: Url = None) -> None:
    """Raters by how far they agree with the others, and Krippendorff's alpha."""
    from deploy.client import find
    from deploy.show import show

    found = find(url).get("/v1/annotations/raters", alias=alias)
    show(found, COLUMNS, as_json=as_json)
    if not as_json:
        alpha = found["alpha"]["ordinal"]
        told = "not known yet" if alpha is None else f"{alpha:.3f}"
        print(
            f"Krippendorff's alpha {told}, over {found['shared']} of {found['things']} pairs that several judged"
        )
