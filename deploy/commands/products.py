"""experiments, aliases: what product teams decide."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from deploy.commands.options import Alias, AsJson, Reason, Url

experiments = typer.Typer(help="A/B tests by hand.", no_args_is_help=True, rich_markup_mode=None)
aliases = typer.Typer(
    help="Products: guidelines, criteria, loop mode.", no_args_is_help=True, rich_markup_mode=None
)

EXPERIMENT_COLUMNS = ("name", "alias", "status", "owner", "arms", "created")
ALIAS_COLUMNS = ("name", "live", "mode", "criteria", "guidelines")
ARM_COLUMNS: tuple[str, ...] = ("name", "adapter", "share", "exposures", "subjects", "up", "down")
ARM_COLUMNS += ("up_rate", "up_rate_lower", "up_rate_upper", "win_rate", "probability_best", "expected_loss")
GUARDRAIL_COLUMNS = ("name", "error_rate", "duration_seconds", "completion_tokens")
CRITERION_COLUMNS = ("arm", "criterion", "up", "down", "won", "lost", "label_mean", "labels")

Arms = Annotated[
    list[str],
    typer.Option("--arm", help="NAME=ADAPTER:SHARE, e.g. control=base:0.9 new=a-000003-…:0.1; repeat it."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(experiments, name="experiments")
    app.add_typer(aliases, name="aliases")


def parse_arm(text: str) -> dict[str, Any]:
    """NAME=ADAPTER:SHARE as the API takes it; the adapter "base" is the base model. Raises BadParameter."""
    name, _, rest = text.partition("=")
    adapter, _, share = rest.rpartition(":")
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not name or not adapter or not 0.0 <= value <= 1.0:
        raise typer.BadParameter(f"--arm {text!r} is not NAME=ADAPTER:SHARE with a share from 0 to 1")
    return {"name": name, "adapter": None if adapter == "base" else adapter, "share": value}


@experiments.command("list")
def list_experiments(
    alias: Annotated[str | None, typer.Option()] = None, as_json: AsJson = False, url: Url = None
) -> None:
    """All experiments, or those of an alias."""
    from deploy.client import find
    from deploy.show import show

    show(find(url).get("/v1/experiments", alias=alias), EXPERIMENT_COLUMNS, as_json=as_json)


@experiments.command()
def create(name: str, arm: Arms, alias: Alias = "heed", as_json: AsJson = False, url: Url = None) -> None:
    """Split an alias's traffic; the shares of the arms add up to 1."""
    from deploy.client import find
    from deploy.show import show

    body = {"name": name, "alias": alias, "arms": [parse_arm(text) for text in arm]}
    show(find(url).post("/v1/experiments", body), (), as_json=as_json)


Shares = Annotated[list[str], typer.Option("--share", help="ARM=SHARE; repeat it for every arm.")]


@experiments.command()
def ramp(
    name: str, share: Shares, reason: Reason = "ramp by hand", as_json: AsJson = False, url: Url = None
) -> None:
    """Change the shares of a running experiment; who is in an arm that grows stays in it."""
    from deploy.client import find
    from deploy.show import show

    body = {"shares": dict(parse_number(text, "--share") for text in share), "reason": reason}
    show(find(url).patch(f"/v1/experiments/{name}", body), (), as_json=as_json)


@experiments.command()
def stop(name: str, reason: Reason = "stopped by hand", as_json: AsJson = False, url: Url = None) -> None:
    """End an experiment; traffic goes to the live adapter."""
    from deploy.client import find
    from deploy.show import show

    body = {"status": "stopped", "reason": reason}
    show(find(url).patch(f"/v1/experiments/{name}", body), (), as_json=as_json)


@experiments.command()
def report(name: str, as_json: AsJson = False, url: Url = None) -> None:
    """Arms, intervals and the verdict; may be looked at at any time."""
    from deploy.client import find
    from deploy.show import show

    found = find(url).get(f"/v1/experiments/{name}/report")
    arms = found.get("arms")
    if as_json or not isinstance(arms, list):
        show(found, (), as_json=as_json)
        return
    show({key: value for key, value in found.items() if key != "arms"}, (), as_json=False)
    criteria = [
        {"arm": arm["name"], "criterion": name, **said}
        for arm in arms
        for name, said in sorted(arm["criteria"].items())
    ]
    guardrails = [{"name": arm["name"], **arm["guardrails"]} for arm in arms]
    for rows, columns in (
        (arms, ARM_COLUMNS),
        (guardrails, GUARDRAIL_COLUMNS),
        (criteria, CRITERION_COLUMNS),
    ):
        if rows:
            print()
            show({"data": rows}, columns, as_json=False)


@aliases.command("list")
def list_aliases(as_json: AsJson = False, url: Url = None) -> None:
    """All aliases and what is live on them."""
    from deploy.client import find
    from deploy.show import show

    show(find(url).get("/v1/aliases"), ALIAS_COLUMNS, as_json=as_json)


Guidelines = Annotated[
    str | None, typer.Option(help="System prompt put before every chat; @FILE reads a file.")
]
Criteria = Annotated[
    list[str] | None, typer.Option("--criterion", help="NAME=WEIGHT; repeat it. Replaces the former.")
]
Mode = Annotated[str | None, typer.Option(help="auto, approve (people promote) or off.")]
Thresholds = Annotated[
    list[str] | None, typer.Option("--threshold", help="SETTING=NUMBER of this alias; repeat it.")
]


@aliases.command("create")
def create_alias(
    name: str,
    *,
    guidelines: Guidelines = None,
    criterion: Criteria = None,
    mode: Mode = None,
    threshold: Thresholds = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Make a new alias."""
    from deploy.client import find
    from deploy.show import show

    body = {"name": name, **alias_body(guidelines, criterion, mode, threshold)}
    show(find(url).post("/v1/aliases", body), (), as_json=as_json)


@aliases.command("set")
def set_alias(
    name: str,
    *,
    guidelines: Guidelines = None,
    criterion: Criteria = None,
    mode: Mode = None,
    threshold: Thresholds = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Change an alias; weights are in force at the next training round."""
    from deploy.client import find
    from deploy.show import show

    body = alias_body(guidelines, criterion, mode, threshold)
    if not body:
        raise typer.BadParameter("nothing to set: give --guidelines, --criterion, --mode or --threshold")
    show(find(url).patch(f"/v1/aliases/{name}", body), (), as_json=as_json)


def alias_body(
    guidelines: str | None, criteria: list[str] | None, mode: str | None, thresholds: list[str] | None
) -> dict[str, Any]:
    """Only what was said on the command line."""
    body: dict[str, Any] = {}
    if guidelines is not None:
        body["guidelines"] = read_guidelines(guidelines)
    if mode is not None:
        body["mode"] = mode
    if criteria:
        body["criteria"] = dict(parse_number(text, "--criterion") for text in criteria)
    if thresholds:
        body["thresholds"] = dict(parse_number(text, "--threshold") for text in thresholds)
    return body


def read_guidelines(text: str) -> str:
    """The text itself, or with @ what is in the file. Raises BadParameter."""
    from pathlib import Path

    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).expanduser().read_text()
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"--guidelines {text!r} cannot be read ({error})") from error


def parse_number(text: str, option: str) -> tuple[str, float]:
    """NAME=NUMBER. Raises BadParameter."""
    name, _, number = text.partition("=")
    try:
        value = json.loads(number)
    except ValueError:
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise typer.BadParameter(f"{option} {text!r} is not NAME=NUMBER")
    return name.strip(), float(value)
