"""The chat page in a real browser, on a real gateway and a real engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.engine]


async def say(page: Page, words: str) -> None:
    await page.get_by_role("textbox", name="Message").fill(words)
    await page.keyboard.press("Enter")


async def chatted(page: Page, heed: str, words: str = "When do you open on Sundays?") -> str:
    """Say something on a fresh page; the reply's text as the stream brought it."""
    await page.goto(heed)
    async with page.expect_response("**/v1/chat/completions") as answered:
        await say(page, words)
    answer = await answered.value
    await answer.finished()
    assert answer.headers["content-type"].startswith("text/event-stream")
    await expect(page.get_by_role("group", name="Vote on this reply")).to_have_count(1)
    return "".join(text_of(chunk) for chunk in chunks(await answer.text()))


def chunks(stream: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]


def text_of(chunk: dict[str, Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])


async def stored(page: Page, button: str) -> dict[str, Any]:
    """Press a button that posts feedback; what the gateway answered."""
    async with page.expect_response("**/v1/feedback*") as answered:
        await page.get_by_role("button", name=button, exact=True).click()
    body: dict[str, Any] = await (await answered.value).json()
    return body


async def held(page: Page, heed: str, response_id: str) -> tuple[int, dict[str, Any]]:
    """GET /v1/feedback/{id} as the same visitor."""
    answer = await page.context.request.get(f"{heed}/v1/feedback/{response_id}")
    return answer.status, await answer.json()


async def test_a_reply_streams_and_a_thumb_on_it_is_stored(page: Page, heed: str, tmp_path: Path) -> None:
    streamed = await chatted(page, heed)
    assert streamed.strip()
    shown = await page.locator(".reply .words").inner_text()
    assert " ".join(shown.split()) == " ".join(streamed.split())
    vote = await stored(page, "Good reply")
    await expect(page.get_by_role("button", name="Good reply")).to_have_attribute("aria-pressed", "true")
    await expect(page.locator(".votes .note")).to_have_text("Stored")
    status, kept = await held(page, heed, vote["response_id"])
    assert (status, kept["rating"], kept["feedback_id"]) == (200, "up", vote["feedback_id"])
    await page.screenshot(path=tmp_path / "chat.png")


async def test_a_thumb_can_be_turned_explained_and_taken_back(page: Page, heed: str) -> None:
    await chatted(page, heed)
    first = await stored(page, "Good reply")
    second = await stored(page, "Bad reply")
    assert second["feedback_id"] == first["feedback_id"]
    await page.get_by_role("checkbox", name="Not helpful").check()
    await page.get_by_role("textbox", name="Comment").fill("too short")
    await page.get_by_role("textbox", name="What should it have said?").fill("We open at ten on Sundays.")
    async with page.expect_response("**/v1/feedback"):
        await page.locator(".why").get_by_role("button", name="Send", exact=True).click()
    await expect(page.locator(".why")).to_have_count(0)
    _, kept = await held(page, heed, first["response_id"])
    assert (kept["rating"], kept["reasons"], kept["comment"]) == ("down", ["helpful"], "too short")
    assert kept["correction"] == "We open at ten on Sundays."
    await page.get_by_role("button", name="Bad reply").click()
    await expect(page.locator(".votes .note")).to_have_text("Taken back")
    status, kept = await held(page, heed, first["response_id"])
    assert (status, kept["error"]["code"]) == (404, "feedback_not_found")


async def test_side_by_side_is_blind_and_the_choice_is_stored_by_a_key(
    page: Page, heed: str, tmp_path: Path
) -> None:
    await page.goto(heed)
    await page.get_by_text("Side by side").click()
    async with page.expect_response("**/v1/chat/comparisons") as answered:
        await say(page, "Can I bring my dog?")
    first = chunks(await (await answered.value).text())[0]
    await expect(page.get_by_role("group", name="Which reply is better?")).to_be_visible()
    assert await page.locator(".pair .words").count() == 2
    assert all([(await words.inner_text()).strip() for words in await page.locator(".pair .words").all()])
    async with page.expect_response("**/v1/comparisons") as chosen:
        await page.keyboard.press("4")
    answer = await chosen.value
    body = await answer.json()
    assert (answer.status, body["preferred"], body["comparison_id"]) == (201, 1, first["id"])
    ids = [choice["response_id"] for choice in first["choices"]]
    assert body["ranking"] == [[ids[1]], [ids[0]]]
    await expect(page.locator(".side.chosen h3")).to_have_text("Right")
    await page.screenshot(path=tmp_path / "sides.png")


async def test_the_next_turn_goes_on_from_the_side_that_was_chosen(page: Page, heed: str) -> None:
    await page.goto(heed)
    await page.get_by_text("Side by side").click()
    await say(page, "Do you have vegan food?")
    await page.get_by_role("button", name="Right is better").click()
    await expect(page.locator(".choice .note")).to_have_text("Stored")
    right = await page.locator(".side").nth(1).locator(".words").inner_text()
    async with page.expect_request("**/v1/chat/comparisons") as asked:
        await say(page, "And for children?")
    messages = (await asked.value).post_data_json["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user"]
    assert " ".join(messages[1]["content"].split()) == " ".join(right.split())
    await expect(page.locator(".choice")).to_have_count(2)


async def test_a_chat_that_is_not_to_be_learnt_from_takes_no_vote(page: Page, heed: str) -> None:
    await page.goto(heed)
    await page.get_by_text("Learn from this chat").click()
    async with page.expect_request("**/v1/chat/completions") as asked:
        await say(page, "Is there parking?")
    assert (await asked.value).post_data_json["store"] is False
    await expect(page.get_by_text("Not kept, so it cannot be voted on.")).to_be_visible()
    await expect(page.locator(".votes")).to_have_count(0)


async def test_a_new_chat_forgets_the_turns_before(page: Page, heed: str) -> None:
    await chatted(page, heed)
    await page.get_by_role("button", name="New chat").click()
    await expect(page.locator(".said")).to_have_count(0)
    async with page.expect_request("**/v1/chat/completions") as asked:
        await say(page, "Hello")
    assert (await asked.value).post_data_json["messages"] == [{"role": "user", "content": "Hello"}]
    await expect(page.locator(".votes")).to_have_count(1)


async def test_my_data_tells_what_is_held(page: Page, heed: str) -> None:
    await chatted(page, heed)
    await stored(page, "Good reply")
    await page.get_by_role("button", name="My data").click()
    await expect(page.get_by_role("dialog")).to_contain_text("It holds 1 reply to you and 1 vote on them.")


async def test_a_rater_chooses_between_fresh_replies(page: Page, heed: str, tmp_path: Path) -> None:
    await chatted(page, heed)
    await page.goto(f"{heed}/annotate")
    await expect(page.locator(".pair .words")).to_have_count(2)
    await page.screenshot(path=tmp_path / "annotate.png")
    async with page.expect_response("**/v1/comparisons") as answered:
        await page.get_by_role("button", name="Left is better").click()
    answer = await answered.value
    assert (answer.status, (await answer.json())["preferred"]) == (201, 0)
    await expect(page.get_by_text("1 rated in this tab")).to_be_visible()
