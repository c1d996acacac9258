"""From a fresh clone to the first streamed reply, and how fast everything starts after that.

    python -m benchmarks.start --rounds 3

Clones HEAD into a folder elsewhere and runs `make up` there in a terminal, with nothing in the environment but HOME,
PATH and pip's own settings: once with all to install, then again, each time until a chat is streamed, and ended with
Ctrl-C. Second starts take turns with the floor, plain vLLM with the same flags on the same packages.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import ROOT, Figure, Row, parser_of
from benchmarks.terminal import belonging_to, terminal
from deploy import engine
from deploy.settings import LaunchSettings
from tests.servers import answers, free_port, process, wait_until

DESCRIPTION = "from a fresh clone to the first streamed reply; second starts beside plain vLLM"
FIRST_SECONDS, STOP_SECONDS = 1200.0, 60.0
PAUSE_SECONDS = 0.05
IMPORT = "import sys, serve.app; sys.exit('torch' in sys.modules)"


def bare_environment(data: Path) -> dict[str, str]:
    """HOME, PATH without this environment, and how pip finds packages."""
    kept = {name: value for name, value in os.environ.items() if name == "HOME" or name.startswith("PIP_")}
    here = str(Path(sys.executable).parent)
    path = os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if part != here)
    return {**kept, "PATH": path, "TERM": "xterm", "HEED_DATA_DIR": str(data)}


def streams(url: str, model: str, key: str = "none") -> bool:
    """Whether a streamed chat brings a first piece of text."""
    body = {"model": model, "messages": [{"role": "user", "content": "When do you open?"}], "stream": True}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return any(b'"content":"' in line and b'"content":""' not in line for line in reply)
    except (OSError, http.client.HTTPException):
        return False


def make_up(clone: Path, env: dict[str, str], name: str) -> Row:
    """One `make up` from the command to the first reply, and from Ctrl-C to the end of its last process."""
    port, log = free_port(), clone.parent / "up.log"
    url, began = f"http://127.0.0.1:{port}", time.monotonic()
    with terminal(["make", "up", f"ARGS=--port {port}"], clone, env, log) as window:
        page = 0.0
        while not streams(url, "heed"):
            page = page or (time.monotonic() - began if answers(url) else 0.0)
            if window.process.poll() is not None or time.monotonic() - began > FIRST_SECONDS:
                raise RuntimeError(f"make up came to nothing: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(PAUSE_SECONDS)
        reply = time.monotonic() - began
        running = belonging_to(clone.parent)
        window.press_ctrl_c()
        pressed = time.monotonic()
        window.process.wait(STOP_SECONDS)
        stopped, left = time.monotonic() - pressed, belonging_to(clone.parent)
    return {
        "start": name,
        "to_page": round(page, 2),
        "to_reply": round(reply, 2),
        "to_stop": round(stopped, 2),
        "processes": len(running),
        "left": len(left),
    }


def plain_vllm(python: Path, folder: Path) -> Row:
    """vLLM's own server with the flags and the environment that Heed gives its engine."""
    port, key = free_port(), "floor"
    program = engine.program("engine", port, LaunchSettings(engine_fork=False), key)
    began = time.monotonic()
    with process([str(python), *program.command[1:]], folder / "vllm.log", program.env):
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: streams(url, "base", key), 300, "vLLM", folder / "vllm.log")
        return {"start": "plain vLLM", "to_reply": round(time.monotonic() - began, 2)}


def timed(name: str, command: Sequence[str], clone: Path, env: dict[str, str], runs: int = 9) -> Row:
    """Median and worst wall-clock seconds of a short command. Raises CalledProcessError when one fails."""
    seconds = []
    for _ in range(runs):
        began = time.monotonic()
        subprocess.run(command, cwd=clone, env=env, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.monotonic() - began)
    return {
        "command": name,
        "seconds": round(statistics.median(seconds), 3),
        "worst": round(max(seconds), 3),
        "runs": runs,
    }


def measure(rounds: int) -> list[Row]:
    """Everything in one clone, which is gone at the end."""
    with tempfile.TemporaryDirectory(prefix="heed-start-") as name:
        clone = Path(name) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        env = bare_environment(Path(name) / "data")
        rows = [make_up(clone, env, "first")]
        python = clone / ".venv" / "bin" / "python"
        for _ in range(rounds):
            rows += [make_up(clone, env, "second"), plain_vllm(python, Path(name))]
        rows.append(timed("heed --help", [str(python.with_name("heed")), "--help"], clone, env))
        rows.append(timed("import serve.app", [str(python), "-c", IMPORT], clone, env))
    return rows


def run(arguments: Sequence[str]) -> list[Row]:
    """Parse and measure; one row a start, one a command."""
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    return measure(parser.parse_args(arguments).rounds)


def figures(rows: Sequence[Row]) -> list[Figure]:
    """Medians of the second starts; the worst of what must never happen."""
    starts: dict[str, list[Row]] = {}
    for row in rows:
        starts.setdefault(str(row.get("start") or row["command"]), []).append(row)
    second, ups = starts["second"], [*starts["first"], *starts["second"]]

    def median(several: Sequence[Row], name: str) -> str:
        return f"{statistics.median(row[name] for row in several):.3g} s"

    running, left = min(row["processes"] for row in ups), max(row["left"] for row in ups)
    return [
        Figure(
            "fresh clone, packages in pip's and uv's caches: `make up` to the first streamed reply",
            median(starts["first"], "to_reply"),
        ),
        Figure("second `make up` to the page", median(second, "to_page")),
        Figure(
            "second `make up` to the first streamed reply",
            median(second, "to_reply"),
            f"plain vLLM, same flags: {median(starts['plain vLLM'], 'to_reply')}",
        ),
        Figure(f"processes left after Ctrl-C, of {running}", str(left), f"gone in {median(ups, 'to_stop')}"),
        Figure("`heed --help`", median(starts["heed --help"], "seconds")),
        Figure("the gateway imported, without torch", median(starts["import serve.app"], "seconds")),
    ]


if __name__ == "__main__":
    for result in run(sys.argv[1:]):
        print(json.dumps(result))
