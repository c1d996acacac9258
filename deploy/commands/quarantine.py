"""quarantine: votes that rounds keep out of training; look at them, release or confirm them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deploy.commands.options import AsJson, Url

quarantine = typer.Typer(
    help="Look at votes that are kept out of training, release or confirm them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
COLUMNS = ("burst", "alias", "kind", "votes", "subjects", "verdict", "reason")
Name = Annotated[str, typer.Argument(help="A burst (qb-…) or one vote (its event id).")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(quarantine, name="quarantine")


@quarantine.command("list")
def list_quarantine(
    alias: Annotated[str | None, typer.Option(help="Only of this alias.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Decided ones, too.")] = False,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Bursts in quarantine and why; with --json each vote."""
    from deploy.client import find
    from deploy.show import show

    told = find(url).get("/v1/quarantine", alias=alias, state="all" if every else "open")
    show(told if as_json else {"data": bursts(told["data"])}, COLUMNS, as_json=as_json)


@quarantine.command()
def release(name: Name, url: Url = None) -> None:
    """They are honest: they count from the next batch."""
    _decide(name, url, "released")


@quarantine.command()
def confirm(name: Name, url: Url = None) -> None:
    """They are not: they never count."""
    _decide(name, url, "confirmed")


def bursts(votes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each burst and verdict, in the order of their first votes."""
    rows: dict[tuple[str, str | None], dict[str, Any]] = {}
    people: dict[tuple[str, str | None], set[str]] = {}
    for vote in votes:
        key = (vote["burst"], vote["verdict"])
        row = rows.setdefault(key, {**{name: vote.get(name) for name in COLUMNS}, "votes": 0})
        row["votes"] += 1
        people.setdefault(key, set()).add(vote["subject"])
        row["subjects"] = len(people[key])
    return list(rows.values())


def _decide(name: str, url: str | None, verdict: str) -> None:
    from urllib.parse import quote

    from deploy.client import find

    told = find(url).post(f"/v1/quarantine/{quote(name, safe='')}", {"verdict": verdict})
    print(f"{len(told['votes'])} votes of {told['id']} are {verdict}")
