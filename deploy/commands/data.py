"""import, feedback export, batches, forget, keys: data and access."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deploy.commands.options import Alias, AsJson, Url

feedback = typer.Typer(help="The feedback that was given.", no_args_is_help=True, rich_markup_mode=None)
batches = typer.Typer(help="What training has read.", no_args_is_help=True, rich_markup_mode=None)
keys = typer.Typer(help="Access keys.", no_args_is_help=True, rich_markup_mode=None)

BATCH_COLUMNS = ("id", "alias", "votes", "prompts", "newest_vote", "damaged")
KEY_COLUMNS = (
    "id", "name", "scopes", "priority", "requests_per_minute", "tokens_per_minute", "tokens_per_day",
    "max_concurrent", "created", "revoked",
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(name="import")(import_file)
    app.add_typer(feedback, name="feedback")
    app.add_typer(batches, name="batches")
    app.command()(forget)
    app.add_typer(keys, name="keys")


def import_file(
    file: Annotated[Path, typer.Argument(help="NDJSON, gzipped or not.")],
    form: Annotated[str, typer.Option("--format", help="preference, binary, sft or oasst.")],
    alias: Alias = "heed",
    told: Annotated[
        Path | None, typer.Option("--report", help="Write what was read and left out to this file, as JSON.")
    ] = None,
) -> None:
    """Bring in feedback that exists already. What was brought in before counts once, so an import that broke off is
    begun again.
    """
    from deploy.import_file import SHOWN, import_feedback, write_report

    report = import_feedback(file, form, alias)
    if told is not None:
        write_report(report, told)
    print(report.summary())
    for why, times in report.reasons()[:SHOWN]:
        print(f"  {times} x {why}")
    for skipped in report.skipped[:SHOWN]:
        print(f"  line {skipped.line}: {skipped.why}")
    if len(report.skipped) > SHOWN:
        print(f"  … and {len(report.skipped) - SHOWN} more: --report FILE has them all")
    if not report.records:
        raise typer.Exit(1)


@feedback.command()
def export(
    out: Annotated[Path, typer.Option(help="The file to write.")],
    form: Annotated[str, typer.Option("--format", help="preference, binary, sft or events.")] = "preference",
    since: Annotated[str | None, typer.Option(help="Only what was said after this time.")] = None,
    url: Url = None,
) -> None:
    """Write the feedback as NDJSON, in the form trainers read."""
    from deploy.client import find
    from deploy.export_file import write_whole

    chunks = find(url).stream("/v1/feedback/export", format=form, since=since)
    print(f"{write_whole(out, chunks)} lines in {out}")


@batches.command(name="list")
def list_batches(as_json: AsJson = False) -> None:
    """The batches on disk, oldest first."""
    from deploy.rebuilding import batches as every
    from deploy.settings import LaunchSettings
    from deploy.show import show

    show({"data": every(LaunchSettings())}, BATCH_COLUMNS, as_json=as_json)


@batches.command(name="rebuild")
def rebuild(
    batch: Annotated[str, typer.Argument(help="Its id, b-….")],
    out: Annotated[Path | None, typer.Option(help="Where to write its Parquet.")] = None,
) -> None:
    """Make a batch again from the archive and hold it against the bytes its manifest names."""
    from deploy.rebuilding import rebuild_batch
    from deploy.settings import LaunchSettings

    print(rebuild_batch(LaunchSettings(), batch, out))


def forget(subject: Annotated[str, typer.Argument(help="The pseudonym, s-…, as events show it.")]) -> None:
    """Delete everything a subject has said, from every store."""
    from deploy.forgetting import forget_subject

    print(forget_subject(subject))


@keys.command()
def create(
    scope: Annotated[list[str], typer.Option(help="chat, annotate, product, ops or admin; repeat it.")],
    name: Annotated[str, typer.Option(help="Whose it is.")] = "",
    priority: Annotated[
        str, typer.Option(help="Who is served first in overload: high, normal or low.")
    ] = "normal",
    requests_per_minute: Annotated[float | None, typer.Option(help="Chats a minute; 0: any.")] = None,
    tokens_per_minute: Annotated[float | None, typer.Option(help="Of prompts and replies; 0: any.")] = None,
    tokens_per_day: Annotated[float | None, typer.Option(help="Of prompts and replies; 0: any.")] = None,
    max_concurrent: Annotated[
        int | None, typer.Option(help="Chats at once, in all gateways together; 0: any.")
    ] = None,
) -> None:
    """Make a key and print it: it is shown this once. With the first key, every caller needs one. A limit that is
    not given is that of the gateways' settings (HEED_KEY_…).
    """
    from deploy.access_keys import Terms, create_key
    from deploy.store_access import open_store

    terms = Terms(
        scope, name, priority, requests_per_minute, tokens_per_minute, tokens_per_day, max_concurrent
    )
    record, key = create_key(open_store().registry, terms)
    print(f"{record.id}  {', '.join(record.scopes)}\n{key}")


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """All keys, without the keys themselves."""
    from deploy.show import show
    from deploy.store_access import open_store

    records = open_store().registry.keys()
    shown = [{column: _plain(getattr(record, column)) for column in KEY_COLUMNS} for record in records]
    show({"object": "list", "data": shown}, KEY_COLUMNS, as_json=as_json)


def _plain(value: object) -> object:
    """Limits are mostly whole: 100000 reads better than 1e+05."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


@keys.command()
def revoke(key_id: Annotated[str, typer.Argument(help="The key's id, k-….")]) -> None:
    """Let a key open nothing any more."""
    from deploy.access_keys import revoke_key
    from deploy.store_access import open_store

    print(f"revoked {revoke_key(open_store().registry, key_id).id}")


@keys.command()
def rotate(
    wait: Annotated[
        float, typer.Option(help="Seconds until the new key signs: every gateway must have read it by then.")
    ] = 60.0,
) -> None:
    """Make a new key that signs response ids. Ids that are out stay good: old keys go on verifying."""
    import time

    from feedback.ids import rotate as rotated
    from feedback.settings import StoreSettings

    secrets = rotated(StoreSettings().root / "secret", time.time() + wait)
    print(f"{len(secrets.keys)} signing keys; the newest signs in {wait:.0f} s")
