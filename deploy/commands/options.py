"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Url = Annotated[str | None, typer.Option(help="Where Heed runs (HEED_URL; else the local launch).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Alias = Annotated[str, typer.Option(help="The alias that is meant.")]
Reason = Annotated[str, typer.Option(help="Kept in the history.")]
