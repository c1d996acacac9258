"""Clients that know nothing of Heed, unchanged, against it: which of their cases pass?

    python -m benchmarks.clients

Starts a real Valkey, a real vLLM engine with the starter model and real gateways with a key of scope ``chat``; then
runs the official SDKs in Python (two versions) and in Node, LangChain, LiteLLM, ``vllm bench serve`` and Open WebUI, in
environments of their own, the last also in a browser. A case passes when the client got what it should, by the
client's own account. ``--without open-webui`` leaves the largest one out.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version as installed_version
from pathlib import Path

from benchmarks.results import RESULTS, Figure, Row, parser_of
from tests.clients import bench_serve, environment, open_webui
from tests.clients.environment import PYTHON, Told, node_version, run_node, run_python, version
from tests.clients.gateways import Gateways, gateways
from tests.servers import engine_server, valkey_server

DESCRIPTION = "clients that know nothing of Heed: SDKs, LangChain, LiteLLM, Open WebUI, vllm bench serve"
PICTURE = RESULTS / "open-webui.png"
Runner = Callable[[Path, Gateways], list[Told]]


def runners() -> dict[str, tuple[str, Runner]]:
    """Client → its version, and how its cases are run."""

    def python(program: str, interpreter: Path = PYTHON) -> Runner:
        return lambda _, at: run_python(program, at.environment, interpreter)

    def in_webui(folder: Path, at: Gateways) -> list[Told]:
        with open_webui.open_webui(folder, at) as url:
            return open_webui.told(url, at, PICTURE)

    locked, here = installed_version("openai"), Path(sys.executable)
    return {
        "openai (Python)": (version("openai"), python("with_openai")),
        "openai (Python), as locked": (locked, python("with_openai", here)),
        "openai (Node)": (node_version("openai"), lambda _, at: run_node(at.environment)),
        "langchain-openai": (version("langchain-openai"), python("with_langchain")),
        "litellm": (version("litellm"), python("with_litellm")),
        "vllm bench serve": (vllm_version(), bench_serve.told),
        "open-webui": (open_webui.VERSION, in_webui),
    }


def vllm_version() -> str:
    """Of the engine's distribution, whichever it is."""
    import vllm

    return str(vllm.__version__)


def run(arguments: Sequence[str]) -> list[Row]:
    """A row for each client, with its cases."""
    parser = parser_of(__doc__)
    parser.add_argument("--without", action="append", default=[], metavar="CLIENT")
    told = parser.parse_args(arguments)
    environment.made()
    rows = []
    with (
        tempfile.TemporaryDirectory() as name,
        valkey_server(Path(name) / "valkey") as (redis_url, _),
        engine_server(Path(name)) as engine_url,
        gateways(Path(name), engine_url, redis_url) as at,
    ):
        for client, (tested, runner) in runners().items():
            if client not in told.without:
                cases = runner(Path(name), at)
                print(
                    f"{client} {tested}: {sum(one.passed for one in cases)} of {len(cases)}", file=sys.stderr
                )
                rows.append({"client": client, "version": tested, "cases": [asdict(one) for one in cases]})
    return rows


def figures(rows: Sequence[Row]) -> list[Figure]:
    """How many cases of each client pass."""
    return [
        Figure(
            f"{row['client']} {row['version']}, unchanged: cases that pass",
            f"{sum(one['passed'] for one in row['cases'])} of {len(row['cases'])}",
        )
        for row in rows
    ]


if __name__ == "__main__":
    for result in run(sys.argv[1:]):
        print(json.dumps(result))
