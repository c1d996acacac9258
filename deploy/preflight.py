"""Refuses a launch that cannot work, before any process starts, and says how to mend it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

import psutil

from deploy import engine, valkey
from deploy.client import is_http
from deploy.errors import CannotStart
from deploy.probes import store_ok
from deploy.settings import LaunchSettings

LEAST_DISK, LEAST_ENGINE_MEMORY = 300_000_000, 2_500_000_000  # bytes


def check_launch(settings: LaunchSettings, *, own_engine: bool, own_store: bool, workers: bool) -> None:
    """Raises CannotStart at the first thing that makes the launch pointless; the data directory is checked before."""
    if own_engine:
        engine.require_vllm()
        check_model(settings.model_path)
        check_memory()
    for url in settings.engines:
        if not is_http(url):
            raise CannotStart(
                f"--engine-url (HEED_ENGINE_URLS) {url!r} is no address", "give it as http://HOST:PORT"
            )
    if workers and importlib.util.find_spec("celery") is None:
        raise CannotStart(
            "the workers are not installed (no module celery)",
            "pip install 'heed[worker]', or start without them: heed up --no-worker",
        )
    if own_store:
        check_address(settings)
        valkey.binary()
    elif not store_ok(settings.redis_url):
        raise CannotStart(
            "the Redis of --redis-url (HEED_REDIS_URL) does not answer PING",
            "start it, check that the address is redis://:password@host:port/number, or leave the option out "
            "for an embedded one",
        )


def check_address(settings: LaunchSettings) -> None:
    """Raises CannotStart for an address that others can reach while no key has ever been made: the gateway would
    refuse it at every start.
    """
    from serve.auth import is_loopback

    if (
        is_loopback(settings.host)
        or os.environ.get("HEED_ADMIN_KEY")
        or (settings.run_dir / "keys.json").exists()
    ):
        return
    raise CannotStart(
        f"--host {settings.host} can be reached by others and no key is configured",
        "set HEED_ADMIN_KEY to a long random value, or start on 127.0.0.1 and make one with "
        "`heed keys create --scope admin`",
    )


def check_data_dir(root: Path) -> None:
    """Raises CannotStart unless the data directory can be written and has room."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
    except OSError as error:
        raise CannotStart(
            f"the data directory {root} cannot be made ({error.strerror})",
            "name another with --data-dir or HEED_DATA_DIR",
        ) from error
    if not os.access(root, os.W_OK | os.X_OK):
        raise CannotStart(
            f"the data directory {root} cannot be written by this user",
            "change its owner, or name another with --data-dir or HEED_DATA_DIR",
        )
    if free < LEAST_DISK:
        needed = LEAST_DISK // 1_000_000
        raise CannotStart(
            f"only {free // 1_000_000} MB are free on the disk of {root}; Heed needs {needed} MB",
            "free some space, or name a data directory on another disk with --data-dir",
        )


def check_model(model_path: str) -> None:
    """Raises CannotStart for a folder that holds no model, or one that cannot chat."""
    folder = Path(model_path)
    looks_local = folder.exists() or model_path.startswith(("/", ".", "~"))
    if looks_local and not (folder / "config.json").exists():
        raise CannotStart(
            f"there is no model in {model_path} (no config.json)",
            "give --model a folder with a Hugging Face model, a hub name, or `starter`",
        )
    if looks_local and not has_chat_template(folder):
        raise CannotStart(
            f"the model in {model_path} has no chat template, so it cannot be chatted with",
            "use an instruct or chat model, or put its template into that folder as chat_template.jinja",
        )


def has_chat_template(folder: Path) -> bool:
    """Whether the tokenizer of a model's folder says how a chat is written, as transformers looks for it."""
    if (folder / "chat_template.jinja").exists():
        return True
    try:
        return bool(json.loads((folder / "tokenizer_config.json").read_text()).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False


def check_memory() -> None:
    """Raises CannotStart when an engine would be killed for memory."""
    available = psutil.virtual_memory().available
    if available < LEAST_ENGINE_MEMORY:
        needed = LEAST_ENGINE_MEMORY / 1e9
        raise CannotStart(
            f"only {available / 1e9:.1f} GB of memory are available; an engine needs {needed:.1f} GB",
            "close other programs, or use an engine on another machine: heed up --engine-url URL",
        )
