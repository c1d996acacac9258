"""Brings a PEFT folder to where the gateway may import from: inside the data directory."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.settings import LaunchSettings
from deploy.state import locked
from feedback.errors import InvalidRecord

FILES = ("adapter_config.json", "adapter_model.safetensors")


@contextmanager
def within_reach(folder: Path, url: str | None) -> Iterator[Path]:
    """The folder, or a passing copy of it in the data directory of the local launch.

    With ``url`` or HEED_URL the gateway may be elsewhere, and the path is left for it to find. Raises
    InvalidRecord when a file is missing.
    """
    settings = LaunchSettings()
    here = url is None and "HEED_URL" not in os.environ and locked(settings.run_dir)
    source = folder.expanduser().absolute()
    if not here:
        yield source
        return
    for name in FILES:
        if not (source / name).is_file():
            raise InvalidRecord(str(folder), f"has no {name}: not a PEFT folder")
    with tempfile.TemporaryDirectory(prefix="import-", dir=settings.root) as reach:
        for name in FILES:
            shutil.copyfile(source / name, Path(reach) / name)
        yield Path(reach)
