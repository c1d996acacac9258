"""The command line. Arguments are parsed before heavy imports: each command imports its own work."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, TextIO

import typer

from deploy.commands import crowd, data, engines, launch, loop, products, quarantine, raters

app = typer.Typer(
    name="heed",
    help="A chat server that learns from the people it serves.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def everywhere(
    data_dir: Annotated[
        Path | None, typer.Option(help="Holds all state (HEED_DATA_DIR; default ~/.local/share/heed).")
    ] = None,
) -> None:
    """A chat server that learns from the people it serves."""
    if data_dir is not None:
        os.environ["HEED_DATA_DIR"] = str(data_dir)


for commands in (launch, crowd, loop, products, engines, quarantine, raters, data):
    commands.register(app)


def main() -> None:
    """Run the command line; errors made on purpose end as one message and exit status 1."""
    try:
        app()
    except BrokenPipeError:
        sys.exit(1)  # who read what is printed has left
    except Exception as error:
        from feedback.errors import HeedError

        if not isinstance(error, HeedError):
            raise
        print(f"heed: {error}", file=sys.stderr)
        sys.exit(1)
    finally:
        for stream in (sys.stdout, sys.stderr):
            let_go(stream)


def let_go(stream: TextIO) -> None:
    """Write what is left, or drop it where nobody reads any more: else Python would end with status 120."""
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())


if __name__ == "__main__":
    main()
