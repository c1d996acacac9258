"""One machine, the whole loop: which processes there are, how they find one another, and one run of them."""

from __future__ import annotations

import secrets
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from deploy import doctor, engine, valkey
from deploy.child import Program, sweep
from deploy.ports import LOOPBACK, claimed_port, free_port
from deploy.preflight import check_data_dir, check_launch
from deploy.probes import http_ok, ticked
from deploy.settings import LaunchSettings
from deploy.state import LaunchState, hold, read_state, state_file
from deploy.supervisor import Supervisor

Show = Callable[[LaunchState], None]
TICK_SECONDS = 20.0  # the schedule ticks every two; a few may be late while all cores train
ATTEND_SECONDS = 40.0  # the training worker is called every ten, and in a round tells of itself every five
TICK_PATIENCE = 120.0  # without a sign of work for so long, worker or beat is started anew


def launch(settings: LaunchSettings, *, workers: bool, show: Callable[[LaunchState], Show]) -> None:
    """Start every part, keep them alive, and return when all have been stopped.

    ``show`` is told the addresses once and gives back what is called at every tick. Raises CannotStart and
    AlreadyRunning before anything is started.
    """
    own_store = "redis_url" not in settings.model_fields_set
    own_engine = not settings.engines
    check_data_dir(settings.root)
    with hold(settings.run_dir):
        sweep_leftovers(settings.run_dir)
        check_launch(settings, own_engine=own_engine, own_store=own_store, workers=workers)
        if not own_store:
            warn_of_store(settings)
        port = claimed_port(settings.host, settings.port)
        programs, state = plan(settings, port, own_store=own_store, own_engine=own_engine, workers=workers)
        supervisor = Supervisor(state, settings.run_dir, settings.logs_dir)
        display = show(state)

        def gateway_answers() -> bool:
            return supervisor.ready("gateway")

        try:
            for program in programs:
                late = program.name in ("worker", "beat")
                supervisor.add(program, after=gateway_answers if late else None)
            supervisor.run(lambda _: display(supervisor.state))
        finally:
            state_file(settings.run_dir).unlink(missing_ok=True)


def warn_of_store(settings: LaunchSettings) -> None:
    """Say on stderr where the given store may lose a vote that was answered, and how to mend it."""
    for finding in doctor.store(settings, None):
        if finding.verdict != "fine":
            print(
                f"heed: warning: of --redis-url, {finding.check}: {finding.found}; an answered vote may be lost\n"
                f"  mend: {finding.mend}",
                file=sys.stderr,
                flush=True,
            )


def sweep_leftovers(run_dir: Path) -> None:
    """Kill what a supervisor that was killed itself may have left in this data directory."""
    left = read_state(run_dir)
    if left is not None:
        sweep(left.processes)


def plan(
    settings: LaunchSettings, port: int, *, own_store: bool, own_engine: bool, workers: bool
) -> tuple[list[Program], LaunchState]:
    """Every program of the launch, in the order of starting, and the addresses by which they meet."""
    programs: list[Program] = []
    redis_url, broker_url = settings.redis_url, settings.broker_url
    if own_store:
        store, base = valkey.program(settings.root / "redis", settings.run_dir)
        programs.append(store)
        redis_url, broker_url = f"{base}/0", f"{base}/1"
    elif "broker_url" not in settings.model_fields_set:
        broker_url = next_database(redis_url)
    engine_urls, key = settings.engines, settings.engine_key
    engines: list[Program] = []
    if own_engine:
        engine_port, key = free_port(), secrets.token_urlsafe(24)
        engine_urls = (f"http://{LOOPBACK}:{engine_port}",)
        engines = [engine.program("engine", engine_port, settings, key)]
    state = LaunchState(
        url=f"http://{shown_host(settings.host)}:{port}",
        redis_url=redis_url,
        broker_url=broker_url,
        engine_urls=engine_urls,
        engine_key=key,
        supervisor_pid=0,
        data_dir=str(settings.root),
        started=time.time(),
    )
    env = shared_environment(settings, state, port)
    programs += [gateway_program(state, env), *engines]
    if workers:
        programs += worker_programs(settings, env)
    return programs, state


def shown_host(host: str) -> str:
    """An address a browser on this machine can open."""
    return LOOPBACK if host in ("0.0.0.0", "::", "") else host  # noqa: S104 - compared, not bound


def next_database(url: str) -> str:
    """The same server with the database number one higher, for the broker."""
    parts = urlsplit(url)
    number = parts.path.strip("/")
    return urlunsplit(parts._replace(path=f"/{int(number or 0) + 1}" if (number or "0").isdigit() else "/1"))


def shared_environment(settings: LaunchSettings, state: LaunchState, port: int) -> dict[str, str]:
    """What every part of ours is told. Secrets go this way, never through argument lists."""
    return {
        "HEED_DATA_DIR": str(settings.root),
        "HEED_REDIS_URL": state.redis_url,
        "HEED_BROKER_URL": state.broker_url,
        "HEED_MODEL": settings.model,
        "HEED_HOST": settings.host,
        "HEED_PORT": str(port),
        "HEED_ENGINE_URLS": ",".join(state.engine_urls),
        "HEED_ENGINE_KEY": state.engine_key,
        "PYTHONPATH": engine.python_path(),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def gateway_program(state: LaunchState, env: dict[str, str]) -> Program:
    """The gateway: ready when the process answers, whatever becomes of engine and store."""
    return Program(
        name="gateway",
        label="gateway",
        command=(sys.executable, "-m", "serve"),
        env=env,
        probe=lambda: http_ok(f"{state.url}/healthz", 3.0),
        stop_seconds=15.0,
    )


def worker_programs(settings: LaunchSettings, env: dict[str, str]) -> list[Program]:
    """Two workers, so that archiving goes on while one trains, and the beat; all give way to chat.

    One process each ("solo"): what the kernel or the supervisor kills leaves no child behind.
    """
    celery = (sys.executable, "-m", "celery", "-A", "training.app")
    schedule = settings.run_dir / "beat-schedule"

    shared = Program(
        name="worker",
        label="worker",
        command=celery,
        probe=lambda: True,
        env=env,
        nice=settings.worker_nice,
        start_seconds=TICK_PATIENCE,
        silent_seconds=TICK_PATIENCE,
        stop_seconds=6.0,  # a round that is cut short is taken up again where it was
        orphan_signal=signal.SIGKILL,  # without its broker Celery would not end on any other
    )

    def part(name: str, label: str, probe: Callable[[], bool], *said: str) -> Program:
        return replace(shared, name=name, label=label, probe=probe, command=(*celery, *said))

    def worker(label: str, queue: str, probe: Callable[[], bool], level: str) -> Program:
        said = ("worker", "-Q", queue, "-P", "solo", "-n", f"{label}@heed", "--without-gossip")
        return part("worker", label, probe, *said, "--loglevel", level)

    def ticking() -> bool:
        return ticked(env["HEED_REDIS_URL"], "archive", TICK_SECONDS)

    def attending() -> bool:
        return ticked(env["HEED_REDIS_URL"], "training", ATTEND_SECONDS)

    beat = ("beat", "--schedule", str(schedule), "--pidfile", "", "--loglevel", "WARNING")
    return [
        worker("worker", "training", attending, "INFO"),
        worker("worker-control", "control", ticking, "WARNING"),
        part("beat", "beat", ticking, *beat),
    ]
