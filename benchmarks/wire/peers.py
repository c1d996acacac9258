"""The peers: where to get each, in an environment of its own, and how it is started at its best.

    python -m benchmarks.wire.peers

installs those that are missing. One process each, as Heed; LiteLLM without a database; logs of requests off.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path

from benchmarks.results import ROOT
from benchmarks.wire.answer import Target
from benchmarks.wire.targets import KEY, Cores
from tests.servers import answers, free_port, process, wait_until

ENVIRONMENTS = ROOT / ".venv" / "peers"
PACKAGES = {"vllm-router": "vllm-router==0.1.17", "litellm": "litellm[proxy]==1.108.7"}
NGINX = "nginx-light"  # Debian's
PEERS = ("nginx", "vllm-router", "fastapi", "litellm")
Peer = Callable[[Cores, Path, Target], AbstractContextManager[Target]]


class Absent(RuntimeError):
    """A peer that cannot be had on this machine; its text says why."""


@cache
def installed(name: str) -> Path:
    """The folder of a peer's programs, made when it is missing. Raises Absent."""
    folder = ENVIRONMENTS / name
    programs = folder / "bin"
    if not (folder / PACKAGES[name]).exists():
        shutil.rmtree(folder, ignore_errors=True)
        made = subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True, check=False)
        wanted = [str(programs / "pip"), "install", "--quiet", "--only-binary", ":all:", PACKAGES[name]]
        if made.returncode or (made := subprocess.run(wanted, capture_output=True, check=False)).returncode:
            raise Absent(f"{PACKAGES[name]} could not be installed: {last_line(made.stderr)}")
        (folder / PACKAGES[name]).touch()
    return programs


@cache
def nginx_program() -> str:
    """Debian's nginx, installed when it is missing and this is root. Raises Absent."""
    if not shutil.which("nginx"):
        for command in (["apt-get", "update"], ["apt-get", "install", "--yes", NGINX]):
            try:
                ran = subprocess.run(command, capture_output=True, check=False)
            except FileNotFoundError as error:
                raise Absent("nginx is not installed, and there is no apt-get") from error
            if ran.returncode:
                raise Absent(f"{' '.join(command)} failed: {last_line(ran.stderr)}")
    return shutil.which("nginx") or "nginx"


def version(name: str) -> str:
    """What is measured under that name. Raises Absent."""
    if name == "nginx":
        told = subprocess.run([nginx_program(), "-v"], capture_output=True, check=True).stderr.decode()
        return told.strip().rpartition("/")[2]
    if name in PACKAGES:
        installed(name)
        return PACKAGES[name].partition("==")[2]
    return ""


def last_line(said: bytes) -> str:
    """The end of a program's complaint."""
    return (said.decode(errors="replace").strip().splitlines() or ["it did not say why"])[-1]


@contextmanager
def running(
    target: Target, command: list[str], folder: Path, health: str, env: Mapping[str, str] | None = None
) -> Iterator[Target]:
    """The command, up once ``health`` answers."""
    log = folder / f"{target.name}.log"
    with process(command, log, env) as child:
        wait_until(lambda: answers(f"http://127.0.0.1:{target.port}{health}"), 90, target.name, log)
        yield Target(target.name, target.port, target.model, child.pid, target.key)


NGINX_CONFIG = """
user root;
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx-errors.log error;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/nginx-bodies;
  proxy_temp_path {folder}/nginx-proxied;
  fastcgi_temp_path {folder}/nginx-unused;
  uwsgi_temp_path {folder}/nginx-unused;
  scgi_temp_path {folder}/nginx-unused;
  keepalive_requests 1000000000;
  upstream engine {{
    server 127.0.0.1:{engine};
    keepalive 4096;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }}
  }}
}}
"""


@contextmanager
def nginx(cores: Cores, folder: Path, engine: Target) -> Iterator[Target]:
    """One worker, no buffering, connections to the engine kept alive."""
    port, config = free_port(), folder / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(folder=folder, engine=engine.port, port=port))
    command = cores.alone([nginx_program(), "-e", f"{folder}/nginx-errors.log", "-c", str(config)])
    with running(Target("nginx", port, engine.model, 0), command, folder, "/health") as up:
        yield up


@contextmanager
def vllm_router(cores: Cores, folder: Path, engine: Target) -> Iterator[Target]:
    """vLLM's router in Rust; it takes as many threads as it may use cores, so one."""
    port = free_port()
    command = [str(installed("vllm-router") / "vllm-router"), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--worker-urls", f"http://127.0.0.1:{engine.port}", "--policy", "round_robin"]
    command += ["--log-level", "error", "--prometheus-port", str(free_port())]
    target = Target("vllm-router", port, engine.model, 0)
    with running(target, cores.alone(command), folder, "/health", {"PYTHONPATH": ""}) as up:
        yield up


@contextmanager
def fastapi(cores: Cores, folder: Path, engine: Target) -> Iterator[Target]:
    """A pass-through of a few lines."""
    port = free_port()
    command = cores.alone([sys.executable, "-m", "benchmarks.wire.passthrough", str(port)])
    env = {"ENGINE": f"http://127.0.0.1:{engine.port}"}
    with running(Target("fastapi", port, engine.model, 0), command, folder, "/health", env) as up:
        yield up


@contextmanager
def litellm(cores: Cores, folder: Path, engine: Target) -> Iterator[Target]:
    """LiteLLM's proxy with one model and a master key."""
    port, config = free_port(), folder / "litellm.json"  # JSON is YAML
    to_engine = {
        "model": f"openai/{engine.model}",
        "api_base": f"http://127.0.0.1:{engine.port}/v1",
        "api_key": "none",
    }
    told = {
        "model_list": [{"model_name": "heed", "litellm_params": to_engine}],
        "litellm_settings": {"num_retries": 0, "request_timeout": 600},
        "general_settings": {"master_key": KEY},
    }
    config.write_text(json.dumps(told))
    programs = installed("litellm")
    command = [str(programs / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    env = {
        "PYTHONPATH": "",
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
    }
    command = cores.alone([*command, "--num_workers", "1"])
    with running(Target("litellm", port, "heed", 0, KEY), command, folder, "/health/liveliness", env) as up:
        yield up


STARTED: dict[str, Peer] = {
    "nginx": nginx, "vllm-router": vllm_router, "fastapi": fastapi, "litellm": litellm,
}  # fmt: skip

if __name__ == "__main__":
    for peer in PEERS:
        print(peer, version(peer))
