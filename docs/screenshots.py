#!/usr/bin/env python3
"""The README's pictures, taken of a running Heed: ``python docs/screenshots.py http://127.0.0.1:8080``."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

from playwright.async_api import Browser, Page, ViewportSize, async_playwright, expect

from deploy.preferences import polite_helpful

IMAGES = Path(__file__).resolve().parent / "images"
LARGEST = 200_000  # bytes a picture
VIEW: ViewportSize = {"width": 1120, "height": 870}
CHATS, LIKED, DISLIKED = 60, 0.5, 0.1
QUESTIONS = ("When do you open on Sundays?", "How much is a flat white?")


async def ask(page: Page, words: str, turn: int) -> float:
    """Say something and wait for the reply to end; how much a polite person likes it."""
    await page.get_by_role("textbox", name="Message").fill(words)
    await page.keyboard.press("Enter")
    await expect(page.locator(".votes")).to_have_count(turn, timeout=120_000)
    return polite_helpful(words, await page.locator(".reply .words").last.inner_text())


async def chat(page: Page, url: str) -> None:
    """Two turns of a chat that shows both: a good reply with a thumb up, and a poor one with its reason."""
    await page.goto(url)
    for _ in range(CHATS):
        if await ask(page, QUESTIONS[0], 1) >= LIKED and await ask(page, QUESTIONS[1], 2) < DISLIKED:
            break
        await page.get_by_role("button", name="New chat").click()
    else:
        sys.exit(f"{CHATS} chats had no good reply that a poor one followed")
    await page.get_by_role("button", name="Good reply").first.click()
    await page.get_by_role("button", name="Bad reply").last.click()
    await expect(page.locator(".votes .note")).to_have_text(["Stored", "Stored"])
    await page.get_by_role("checkbox", name="Not helpful").check()


async def loop(page: Page, url: str) -> None:
    """The path and the figures as they are now."""
    await page.goto(f"{url}/loop")
    await expect(page.locator(".stage")).to_have_count(8)
    await page.wait_for_timeout(12_000)  # the curves of a running PPO draw themselves as its steps come


async def take(browser: Browser, url: str, name: str, scale: float) -> int:
    """One picture; its size in bytes."""
    context = await browser.new_context(viewport=VIEW, device_scale_factor=scale, color_scheme="light")
    page = await context.new_page()
    await {"chat": chat, "loop": loop}[name](page, url)
    file = IMAGES / f"{name}.png"
    await page.screenshot(path=file)
    await context.close()
    return file.stat().st_size


async def main(url: str) -> None:
    """Both pictures, as sharp as their size allows."""
    IMAGES.mkdir(exist_ok=True)
    found = shutil.which("chromium") or shutil.which("google-chrome")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu"]
        )
        for name in ("chat", "loop"):
            for scale in (1.5, 1.25, 1.0):
                if await take(browser, url, name, scale) <= LARGEST:
                    break
        await browser.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1].rstrip("/")))
