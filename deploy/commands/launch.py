"""up, down, status, doctor, settings: the processes of this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from deploy.settings import LaunchSettings

DataDir = Annotated[Path | None, typer.Option(help="Holds all state (HEED_DATA_DIR).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(doctor)
    app.command(name="settings")(settings)


def up(
    *,
    model: Annotated[
        str | None, typer.Option(help="Base model: `starter`, a folder, or a Hugging Face name.")
    ] = None,
    engine_url: Annotated[
        list[str] | None,
        typer.Option(help="A running engine; repeat it for more. None of our own is started."),
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="A running Redis. None of our own is started.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (8080); 0 takes a free one.")] = None,
    data_dir: DataDir = None,
    workers: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Start the workers that train, and their schedule.")
    ] = True,
    detach: Annotated[bool, typer.Option(help="Return once it answers, and leave it running.")] = False,
) -> None:
    """Start the whole loop and stay with a live status; Ctrl-C stops it."""
    chosen = {
        "model": model,
        "engine_urls": ",".join(engine_url) if engine_url else None,
        "redis_url": redis_url,
        "host": host,
        "port": port,
        "data_dir": data_dir,
    }
    settings = launch_settings({name: value for name, value in chosen.items() if value is not None})
    if detach:
        from deploy.detach import start_detached

        print(start_detached(settings, sys.argv[1:]))
        return
    from deploy.display import display
    from deploy.local import launch

    launch(settings, workers=workers, show=display)


def launch_settings(chosen: dict[str, object]) -> LaunchSettings:
    """The settings of the environment under those of the command line. Raises SettingsError."""
    from pydantic import ValidationError

    from deploy.settings import LaunchSettings
    from feedback.errors import SettingsError

    try:
        return LaunchSettings(**chosen)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"])
        raise SettingsError(
            f"HEED_{name.upper()} (--{name.replace('_', '-')}) is {first['input']!r}: {first['msg']}"
        ) from error


def down(data_dir: DataDir = None) -> None:
    """Stop the Heed of the data directory, with every process it started."""
    use(data_dir)
    from deploy.detach import stop_running

    print(stop_running(launch_settings({})))


def status(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """What runs, and how fresh it is."""
    use(data_dir)
    import json

    from deploy.status import as_table, gather

    found = gather(launch_settings({}))
    print(json.dumps(found, indent=1) if as_json else as_table(found))


def doctor(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """Check the machine, the versions and the running parts; each fault comes with its mend."""
    use(data_dir)
    from deploy.doctor import examine, report

    findings = examine(launch_settings({}))
    report(findings, as_json=as_json)
    if any(finding.verdict == "broken" for finding in findings):
        raise typer.Exit(1)


def settings(as_json: AsJson = False) -> None:
    """Every setting, its default, its type, and what it does."""
    from deploy.settings_table import report, rows

    report(rows(), as_json=as_json)


def use(data_dir: Path | None) -> None:
    """Let everything that reads HEED_DATA_DIR see the option."""
    if data_dir is not None:
        os.environ["HEED_DATA_DIR"] = str(data_dir)
