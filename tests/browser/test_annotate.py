"""The annotation page on a real gateway whose queue holds items: agreement, reports. No engine is needed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect

from feedback.events import Comparison, Report
from feedback.log import RedisEventLog
from feedback.rating import Item, Option, item_id
from feedback.rating_queue import RedisRatingQueue
from feedback.store import connect
from tests.browser.conftest import gateway

pytestmark = pytest.mark.browser
TEXTS = ("Wren.", "A robin.", "No idea.", "A stone.")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, own_redis: str) -> Iterator[str]:
    """A gateway with one item of four replies, and one open report."""
    with gateway(tmp_path_factory.mktemp("heed"), own_redis) as found:
        client = connect(own_redis)
        prompt = ({"role": "user", "content": "Name a bird."},)
        item = Item(item_id(prompt), prompt, tuple(Option(text, "base") for text in TEXTS), 1.0)
        RedisRatingQueue(client).fill("heed", [item], 2)
        report = Report(
            event_id="ev-1",
            report_id="rp-1",
            response_id="chatcmpl-1",
            time=time.time(),
            subject="s-1",
            report_kind="rude",
            comment="it shouts",
        )
        RedisEventLog(client).append([report])
        yield found


async def test_agreement_is_shown_and_a_report_is_settled(page: Page, url: str) -> None:
    await page.goto(f"{url}/annotate")
    await page.get_by_text("How far raters agree").click()
    await expect(page.locator("#agreement")).to_contain_text("Nothing has been judged by two raters yet.")
    await page.get_by_text("Reports to settle").click()
    await expect(page.locator("#reports")).to_contain_text("it shouts")
    async with page.expect_response("**/v1/reports/rp-1") as answered:
        await page.get_by_role("button", name="It is fine").click()
    assert (await (await answered.value).json())["verdict"] == "dismissed"
    await expect(page.locator("#reports")).to_contain_text("Dismissed: it counts again.")


async def test_ranks_that_are_equal_become_a_group_and_the_others_follow_in_order(
    page: Page, url: str, own_redis: str
) -> None:
    async with page.expect_response("**/v1/annotations/next*") as offered:
        await page.goto(f"{url}/annotate")
    choices = (await (await offered.value).json())["choices"]
    names = {choice["message"]["content"]: choice["response_id"] for choice in choices}
    assert names.keys() == set(TEXTS)
    for text, rank in zip(TEXTS, ("2", "1, the best", "3", "2"), strict=True):
        await page.locator(".side", has_text=text).locator("select").select_option(label=rank)
    async with page.expect_response("**/v1/comparisons") as answered:
        await page.get_by_role("button", name="Send the ranking").click()
    assert (await answered.value).status == 201
    wren, robin, unsure, stone = (names[text] for text in TEXTS)
    said = [entry.event for entry in RedisEventLog(connect(own_redis)).claim("w", 100, 0.0)]
    (ranking,) = [[set(group) for group in one.ranking] for one in said if isinstance(one, Comparison)]
    assert ranking == [{robin}, {wren, stone}, {unsure}]
    await expect(page.get_by_text("1 rated in this tab")).to_be_visible()
