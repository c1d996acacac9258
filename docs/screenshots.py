#!/usr/bin/env python3
"""The README's pictures, taken of a running Heed: ``python docs/screenshots.py http://127.0.0.1:8080``."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

from playwright.async_api import Browser, Page, ViewportSize, async_playwright, expect

IMAGES = Path(__file__).resolve().parent / "images"
LARGEST = 200_000  # bytes a picture
VIEW: ViewportSize = {"width": 1120, "height": 870}
QUESTIONS = ("When do you open on Sundays?", "How much is a flat white?")


async def ask(page: Page, words: str, turn: int) -> None:
    """Say something and wait for the reply to end."""
    await page.get_by_role("textbox", name="Message").fill(words)
    await page.keyboard.press("Enter")
    await expect(page.locator(".votes")).to_have_count(turn, timeout=120_000)


async def chat(page: Page, url: str) -> None:
    """Two turns: a thumb up, and a thumb down with its reason."""
    await page.goto(url)
    for turn, question in enumerate(QUESTIONS, 1):
        await ask(page, question, turn)
        thumb = "Bad reply" if turn == len(QUESTIONS) else "Good reply"
        await page.get_by_role("button", name=thumb).last.click()
        await expect(page.locator(".votes .note").last).to_have_text("Stored")
    await page.get_by_role("checkbox", name="Wrong tone").check()


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
