"""engines: look at them, take one out of service."""

from __future__ import annotations

import typer

from deploy.commands.options import AsJson, Url

engines = typer.Typer(
    help="Look at engines, take one out of service.", no_args_is_help=True, rich_markup_mode=None
)
COLUMNS = ("id", "up", "open", "draining", "in_flight", "ready")


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(engines, name="engines")


@engines.command("list")
def list_engines(as_json: AsJson = False, url: Url = None) -> None:
    """All engines: up, open for new chats, draining, chats in flight, adapters ready."""
    from deploy.client import find
    from deploy.show import show

    show(find(url).get("/v1/engines"), COLUMNS, as_json=as_json)


@engines.command()
def drain(name: str, url: Url = None) -> None:
    """No new chats for an engine; it may be stopped once none is in flight."""
    _change(name, url, draining=True)


@engines.command()
def undrain(name: str, url: Url = None) -> None:
    """Take an engine into service again."""
    _change(name, url, draining=False)


def _change(name: str, url: str | None, *, draining: bool) -> None:
    from deploy.client import find

    changed = find(url).patch(f"/v1/engines/{name}", {"draining": draining})
    word = "drains" if draining else "takes chats"
    print(f"{changed['id']} {word}; {changed['in_flight']} chats in flight on this gateway")
