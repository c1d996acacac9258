"""What the pages show when a part is away, warming up, or wants a key. No engine is needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import gateway
from tests.servers import stop_group, valkey_server
from tests.unit.serve.fake_engine import fake_engine

pytestmark = pytest.mark.browser


async def say(page: Page, words: str) -> None:
    await page.get_by_role("textbox", name="Message").fill(words)
    await page.keyboard.press("Enter")


async def test_a_message_waits_for_the_engine_to_warm_up(page: Page, tmp_path: Path) -> None:
    async with fake_engine() as engine:
        engine.healthy = False
        with (
            valkey_server(tmp_path / "valkey") as (redis_url, _),
            gateway(tmp_path, redis_url, engine.url) as url,
        ):
            await page.goto(url)
            await expect(page.get_by_text("The engine is warming up.")).to_be_visible()
            await expect(page.locator("#ready")).to_have_text("warming up")
            await say(page, "hi")
            assert engine.bodies == []
            engine.healthy = True
            await expect(page.locator(".reply .words")).to_have_text("hello from base!")
            await expect(page.locator("#banner")).to_be_hidden()


async def test_a_vote_without_the_store_is_said_to_be_on_disk(page: Page, tmp_path: Path) -> None:
    async with fake_engine() as engine:
        with (
            valkey_server(tmp_path / "valkey") as (redis_url, child),
            gateway(tmp_path, redis_url, engine.url) as url,
        ):
            await page.goto(url)
            await say(page, "hi")
            await expect(page.locator(".votes")).to_have_count(1)
            stop_group(child)
            await page.get_by_role("button", name="Good reply").click()
            await expect(page.locator(".votes .note")).to_have_text(
                "Kept on this machine; it is counted once the store is back"
            )


async def test_a_gateway_with_keys_asks_for_one(page: Page, tmp_path: Path) -> None:
    async with fake_engine() as engine:
        with (
            valkey_server(tmp_path / "valkey") as (redis_url, _),
            gateway(tmp_path, redis_url, engine.url, HEED_ADMIN_KEY="sesame-and-more") as url,
        ):
            await page.goto(url)
            await page.get_by_label("Access key").last.fill("sesame-and-more")
            await page.get_by_role("button", name="Use it").click()
            await say(page, "hi")
            await expect(page.locator(".reply .words")).to_have_text("hello from base!")
