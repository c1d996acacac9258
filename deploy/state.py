"""What a launch leaves in its data directory: the lock that makes it the only one, and state.json.

state.json holds the secrets by which the parts find one another, so only its owner may read it.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deploy.errors import AlreadyRunning, NotRunning


@dataclass(frozen=True)
class ProcessState:
    """One supervised process as `heed status` shows it."""

    name: str  # gateway | engine | redis | worker | beat
    label: str  # unique among processes; names its log file
    pid: int | None  # None: not running at this moment
    state: str  # starting | ready | unhealthy | waiting | stopped
    restarts: int
    created: float | None = None  # when the kernel started the pid, Unix seconds: tells it from a reused pid


@dataclass(frozen=True)
class LaunchState:
    """One running launch."""

    url: str  # the gateway's address
    redis_url: str  # with its password
    broker_url: str
    engine_urls: tuple[str, ...]
    engine_key: str
    supervisor_pid: int
    data_dir: str
    started: float  # Unix seconds
    processes: tuple[ProcessState, ...] = field(default=())


def state_file(run_dir: Path) -> Path:
    """Where the launch that owns ``run_dir`` writes its state."""
    return run_dir / "state.json"


def write_state(run_dir: Path, state: LaunchState) -> None:
    """Replace state.json in one step, readable by its owner alone."""
    private_write(state_file(run_dir), json.dumps(asdict(state), indent=1))


def private_write(path: Path, text: str) -> None:
    """Write ``text`` with mode 0600 and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as sink:
        sink.write(text)
    draft.replace(path)


def read_state(run_dir: Path) -> LaunchState | None:
    """The last state written there; None when there is none or it is of another make."""
    try:
        values: dict[str, Any] = json.loads(state_file(run_dir).read_text())
        return _state(values)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _state(values: Mapping[str, Any]) -> LaunchState:
    processes = tuple(ProcessState(**entry) for entry in values["processes"])
    rest = {**values, "processes": processes, "engine_urls": tuple(values["engine_urls"])}
    return LaunchState(**rest)


def running_state(run_dir: Path) -> LaunchState:
    """The state of a launch whose supervisor lives. Raises NotRunning."""
    state = read_state(run_dir)
    if state is None or not locked(run_dir):
        raise NotRunning(f"in {run_dir.parent}")
    return state


def locked(run_dir: Path) -> bool:
    """Whether a supervisor holds the data directory at this moment."""
    try:
        with (run_dir / "lock").open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def hold(run_dir: Path) -> Iterator[None]:
    """Hold the data directory for one supervisor; the kernel lets go when it dies, however it dies.

    Raises AlreadyRunning with the holder's pid and address.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "lock").open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            state = read_state(run_dir)
            handle.seek(0)
            digits = handle.read().strip()
            raise AlreadyRunning(
                str(run_dir.parent), int(digits) if digits.isdigit() else None, state.url if state else None
            ) from error
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
