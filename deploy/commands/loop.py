"""train, adapters, rollback: the loop by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.options import Alias, AsJson, Reason, Url

train = typer.Typer(help="Start or end a training round.", no_args_is_help=True, rich_markup_mode=None)
adapters = typer.Typer(
    help="Look at adapters, bring one in, release one.", no_args_is_help=True, rich_markup_mode=None
)

COLUMNS = ("id", "alias", "state", "parent", "engines_ready", "reason", "created")


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(train, name="train")
    app.add_typer(adapters, name="adapters")
    app.command()(rollback)


@train.command()
def now(
    alias: Alias = "heed",
    wait: Annotated[bool, typer.Option(help="Stay until the round has ended.")] = False,
    seconds: Annotated[float, typer.Option(help="Wait no longer than this.")] = 1800.0,
    url: Url = None,
) -> None:
    """Start a round with the votes that wait, however few."""
    from deploy.client import find
    from deploy.rounds import request_round, wait_for_round

    client = find(url)
    asked = request_round(client, alias)
    print(f"asked for a training round of {alias}")
    if wait:
        print(wait_for_round(client, alias, asked, seconds))


@train.command()
def cancel(alias: Alias = "heed", url: Url = None) -> None:
    """End the round that runs; votes it took are learnt from in the next one."""
    from deploy.client import find

    told = find(url).post("/v1/loop/cancel", {"alias": alias})
    print(f"asked the round of {alias} to end, it is at: {told['step'] or 'rest after a failure'}")


@adapters.command("list")
def list_adapters(
    alias: Annotated[str | None, typer.Option(help="Only this alias's.")] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """All adapters, oldest first."""
    from deploy.client import find
    from deploy.show import show

    show(find(url).get("/v1/adapters", alias=alias), COLUMNS, as_json=as_json)


@adapters.command("show")
def show_adapter(adapter: str, as_json: AsJson = False, url: Url = None) -> None:
    """Lineage, figures of training and gate, state and history of one adapter."""
    from deploy.client import find
    from deploy.show import show

    show(find(url).get(f"/v1/adapters/{adapter}"), (), as_json=as_json)


@adapters.command("import")
def import_adapter(folder: Path, alias: Alias = "heed", as_json: AsJson = False, url: Url = None) -> None:
    """Bring in a PEFT LoRA folder as a candidate."""
    from deploy.adapter_import import within_reach
    from deploy.client import find
    from deploy.show import show

    with within_reach(folder, url) as path:
        found = find(url).post("/v1/adapters", {"path": str(path), "alias": alias})
    show(found, (), as_json=as_json)


@adapters.command()
def promote(
    adapter: str, reason: Reason = "promoted by hand", as_json: AsJson = False, url: Url = None
) -> None:
    """Make an adapter live on its alias."""
    from deploy.client import find
    from deploy.show import show

    show(find(url).post(f"/v1/adapters/{adapter}/promote", {"reason": reason}), (), as_json=as_json)


@adapters.command()
def retire(
    adapter: str, reason: Reason = "retired by hand", as_json: AsJson = False, url: Url = None
) -> None:
    """Give up an adapter that is not live; its files are deleted after HEED_ADAPTER_KEEP_SECONDS."""
    from deploy.client import find
    from deploy.show import show

    show(find(url).post(f"/v1/adapters/{adapter}/retire", {"reason": reason}), (), as_json=as_json)


def rollback(
    alias: Alias = "heed", reason: Reason = "rolled back by hand", as_json: AsJson = False, url: Url = None
) -> None:
    """Go back to what was live before; no request fails."""
    from deploy.client import find
    from deploy.show import show

    show(find(url).post("/v1/rollback", {"alias": alias, "reason": reason}), (), as_json=as_json)
