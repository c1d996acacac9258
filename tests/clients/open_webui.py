"""Open WebUI, installed as it comes and pointed at the gateway: its API is asked, and its page is used once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.clients.environment import Told
from tests.clients.gateways import Gateways
from tests.servers import ROOT, answers, free_port, process, wait_until

VERSION = "0.12.4"
HOME = ROOT / ".venv" / "open-webui"  # 2.4 GB
TORCH = "torch==2.13.0+cpu"  # it asks for any torch; this one brings no CUDA
QUESTION = [{"role": "user", "content": "When do you open?"}]
SETTINGS = {
    "ENABLE_FORWARD_USER_INFO_HEADERS": "True",
    "FORWARD_USER_INFO_HEADER_USER_ID": "Heed-User",
    "WEBUI_AUTH": "False",
    "ENABLE_OLLAMA_API": "False",
    "OFFLINE_MODE": "True",
    "HF_HUB_OFFLINE": "1",
    "RAG_EMBEDDING_ENGINE": "openai",
    "ENABLE_VERSION_UPDATE_CHECK": "False",
    "ANONYMIZED_TELEMETRY": "false",
    "DO_NOT_TRACK": "true",
    "WEBUI_SECRET_KEY": "of-a-test",
    "PYTHONPATH": "",
}


def made() -> Path:
    """Its program. Raises CalledProcessError when it cannot be installed."""
    program = HOME / "bin" / "open-webui"
    if not (HOME / VERSION).exists():
        shutil.rmtree(HOME, ignore_errors=True)
        uv = str(ROOT / ".venv" / "bin" / "uv")
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(HOME)], check=True)
        (HOME / "overrides.txt").write_text(f"{TORCH}\n")
        wanted = [f"open-webui=={VERSION}", "--overrides", str(HOME / "overrides.txt")]
        links = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS", "")
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--python", str(HOME / "bin" / "python"), *wanted],
            check=True,
            env={**os.environ, **({"UV_FIND_LINKS": links} if links else {})},
        )
        (HOME / VERSION).touch()
    return program


@contextmanager
def open_webui(folder: Path, at: Gateways) -> Iterator[str]:
    """It, up and without log-in; yields its URL."""
    port, log = free_port(), folder / "open-webui.log"
    env = {
        **SETTINGS,
        "DATA_DIR": str(folder / "open-webui"),
        "OPENAI_API_BASE_URL": f"{at.url}/v1",
        "OPENAI_API_KEY": at.key,
    }
    (folder / "open-webui").mkdir()
    command = [str(made()), "serve", "--host", "127.0.0.1", "--port", str(port)]
    with process(command, log, env):
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{url}/health"), 240, "Open WebUI", log)
        yield url


class Api:
    """Its own HTTP API, as its page uses it."""

    def __init__(self, url: str) -> None:
        self._url, self._token = url, ""
        caller = json.loads(self.post("/api/v1/auths/signin", {"email": "", "password": ""}))
        self._token, self.user = caller["token"], caller["id"]

    def get(self, path: str) -> str:
        return self._ask(path, None)

    def post(self, path: str, body: Any) -> str:
        return self._ask(path, json.dumps(body).encode())

    def _ask(self, path: str, data: bytes | None) -> str:
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._token}"}
        request = urllib.request.Request(self._url + path, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())


def lists_the_alias(api: Api) -> None:
    assert [model["id"] for model in json.loads(api.get("/api/models"))["data"]] == ["heed"]


def chats(api: Api) -> None:
    said = json.loads(api.post("/api/chat/completions", {"model": "heed", "messages": QUESTION}))
    assert said["choices"][0]["message"]["content"]


def streams_with_usage(api: Api) -> None:
    asked = {"model": "heed", "messages": QUESTION, "stream": True, "stream_options": {"include_usage": True}}
    said = api.post("/api/chat/completions", asked)
    assert said.rstrip().endswith("data: [DONE]")
    assert '"usage":{"prompt_tokens"' in said


def sends_its_settings(api: Api) -> None:
    settings = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 20, "min_p": 0.1, "seed": 1, "max_tokens": 16, "stop": ["."],
        "frequency_penalty": 0.1, "presence_penalty": 0.1, "repetition_penalty": 1.1, "reasoning_effort": "low",
    }  # fmt: skip
    asked = {"model": "heed", "messages": QUESTION, "stream": False, "params": settings}
    assert json.loads(api.post("/api/chat/completions", asked))["choices"]


def makes_titles_tags_and_follow_ups(api: Api) -> None:
    for task in ("title", "tags", "follow_up"):
        asked = {"model": "heed", "messages": QUESTION, "chat_id": "a-chat"}
        assert json.loads(api.post(f"/api/v1/tasks/{task}/completions", asked))["choices"]


def proves_the_connection(api: Api, at: Gateways) -> None:
    told = json.loads(api.post("/openai/verify", {"url": f"{at.url}/v1", "key": at.key}))
    assert told["data"][0]["id"] == "heed"


def makes_its_user_the_end_user(api: Api, at: Gateways) -> None:
    headers = {"authorization": f"Bearer {at.key}", "heed-user": api.user}
    with urllib.request.urlopen(urllib.request.Request(f"{at.url}/v1/me", headers=headers)) as answer:
        assert json.loads(answer.read())["responses"]


def answers_in_its_page(url: str, picture: Path) -> None:
    """Ask in the page with headless Chromium, see the answer, and take a picture."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        news = page.get_by_role("dialog")  # of the version, once to each new browser

        def close_news() -> None:
            page.keyboard.press("Escape")

        page.add_locator_handler(news, close_news)
        page.goto(url, wait_until="domcontentloaded")
        page.locator("#chat-input").click(timeout=60_000)
        page.keyboard.type(QUESTION[0]["content"])
        page.keyboard.press("Enter")
        page.get_by_text("Response complete").wait_for(state="attached", timeout=60_000)
        assert len(page.locator("#response-content-container").first.inner_text().strip()) > 10
        page.screenshot(path=str(picture))
        browser.close()


def told(url: str, at: Gateways, picture: Path) -> list[Told]:
    """What came of every case."""
    api = Api(url)
    cases: dict[str, Callable[[], None]] = {
        case.__name__: lambda case=case: case(api)  # type: ignore[misc]
        for case in (
            lists_the_alias,
            chats,
            streams_with_usage,
            sends_its_settings,
            makes_titles_tags_and_follow_ups,
        )
    }
    cases["proves_the_connection"] = lambda: proves_the_connection(api, at)
    cases["makes_its_user_the_end_user"] = lambda: makes_its_user_the_end_user(api, at)
    cases["answers_in_its_page"] = lambda: answers_in_its_page(url, picture)
    return [_run(name, case) for name, case in cases.items()]


def _run(name: str, case: Callable[[], None]) -> Told:
    try:
        case()
    except Exception as error:  # noqa: BLE001  whatever it is, it is the case's result
        return Told(name, passed=False, error=f"{type(error).__name__}: {error}")
    return Told(name, passed=True)
