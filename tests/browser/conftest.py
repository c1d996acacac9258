"""A real gateway as its own process, and a Chromium that notes everything that goes wrong in a page."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Response, async_playwright, expect

from tests.servers import answers, gateway_server, valkey_server, wait_until

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NOBODY = "http://127.0.0.1:9"  # an engine that never answers
Start = Callable[..., AbstractContextManager[str]]
PATIENCE = 120_000  # ms: a busy machine is no fault of a page
expect.set_options(timeout=PATIENCE)  # Playwright's own five seconds are few for an engine's reply


@contextmanager
def gateway(folder: Path, redis_url: str, engine: str = NOBODY, **settings: str) -> Iterator[str]:
    """A gateway that lives; it need not be ready. Yields its URL."""
    settings = {"HEED_ENGINE_HEALTH_SECONDS": "0.1", **settings}
    with gateway_server(folder, redis_url, engine, ready="healthz", **settings) as (url, _):
        yield url


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey that no other test empties."""
    with valkey_server(tmp_path_factory.mktemp("valkey")) as (url, _):
        yield url


@pytest.fixture(scope="module")
def heed(tmp_path_factory: pytest.TempPathFactory, own_redis: str, engine_url: str) -> Iterator[str]:
    """A gateway in front of the real engine."""
    with gateway(tmp_path_factory.mktemp("heed"), own_redis, engine_url) as url:
        wait_until(lambda: answers(f"{url}/readyz"), 180, "the engine")
        yield url


@dataclass
class Watch:
    """What went wrong in the pages of one test."""

    problems: list[str] = field(default_factory=list)

    def over(self, page: Page) -> None:
        """Note the page's errors, its policy's violations, and files that are missing."""
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("console", lambda line: self._console(line.type, line.text))
        page.on("response", self._answered)

    def _console(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"} and not text.startswith("Failed to load resource"):
            self.problems.append(f"{kind}: {text}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and "/v1/" not in response.url and "/readyz" not in response.url:
            self.problems.append(f"{response.status} {response.url}")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Chromium from the system's packages."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    assert found, "no Chromium: install the package 'chromium'"
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield launched
        await launched.close()


@pytest.fixture
async def context(browser: Browser) -> AsyncIterator[BrowserContext]:
    """One visitor. At the end no page may have had an error or broken the content policy."""
    made = await browser.new_context(viewport={"width": 1180, "height": 860})
    made.set_default_timeout(PATIENCE)
    watch = Watch()
    made.on("page", watch.over)
    yield made
    assert watch.problems == []


@pytest.fixture
async def page(context: BrowserContext) -> Page:
    """A tab."""
    return await context.new_page()
