"""``python -m serve``: the gateway under uvicorn, one process or several on one port."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sys
from typing import Any

import uvicorn

from feedback.errors import HeedError, SettingsError
from serve.auth import is_loopback
from serve.settings import GatewaySettings
from serve.wire import BoundedProtocol

LOGGING = {  # the same in every process; uvicorn's own loggers included
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "INFO", "handlers": ["stderr"]},
}

WIRE: dict[str, Any] = {  # what clients meet; tests serve with the same
    "http": BoundedProtocol,
    "ws": "none",
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,
}


def main() -> int:
    """Run until told to stop; 2 when the settings do not allow to start."""
    settings = GatewaySettings()
    try:
        check_address(settings)
    except HeedError as error:
        print(f"heed gateway: {error}", file=sys.stderr)  # noqa: T201 - the operator is to see it
        return 2
    if settings.gateway_workers > 1:
        share_metrics(settings)
    open_many_files()
    uvicorn.run(
        "serve.app:process_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.gateway_workers,
        loop="uvloop",
        **WIRE,
        log_config=LOGGING,
        timeout_graceful_shutdown=20,
        backlog=4096,
    )
    return 0


def check_address(settings: GatewaySettings) -> None:
    """Raises SettingsError for an address that others can reach while no key is configured."""
    if is_loopback(settings.host) or settings.admin_key.get_secret_value():
        return
    from serve.gateway import Stores
    from serve.snapshot import Snapshot

    stores = Stores.redis(settings)
    snapshot = Snapshot(stores.registry, settings.default_alias, settings.run_dir / "keys.json")
    asyncio.run(snapshot.refresh())
    if not snapshot.table.keys:
        raise SettingsError(
            f"HEED_HOST={settings.host} can be reached by others and no key is configured: "
            "make one with `heed keys create --scope admin`, set HEED_ADMIN_KEY, or use HEED_HOST=127.0.0.1"
        )


def open_many_files() -> None:
    """A stream takes two sockets, and the usual soft limit is 1,024 of them: as many as the machine allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def share_metrics(settings: GatewaySettings) -> None:
    """A fresh folder in which the processes keep their metrics; must be set before they are imported."""
    folder = settings.run_dir / "metrics"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


if __name__ == "__main__":
    sys.exit(main())
