"""The chat page in conversation with a fake engine: what is shown, kept, stopped, and given back."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import gateway
from tests.unit.serve.fake_engine import FakeEngine, fake_engine_aside

pytestmark = pytest.mark.browser
LONG = "\n\n".join(f"Paragraph {n}. " + "We open at ten on Sundays. " * 12 for n in range(8))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, own_redis: str) -> Iterator[tuple[FakeEngine, str]]:
    """One fake engine and one gateway in front of it, for all tests of this file."""
    with (
        fake_engine_aside() as engine,
        gateway(tmp_path_factory.mktemp("heed"), own_redis, engine.url) as url,
    ):
        yield engine, url


@pytest.fixture
def engine(shared: tuple[FakeEngine, str], monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The shared engine; what a test changes of it is put back."""
    made = shared[0]
    for name in ("pause", "holds_after", "wait_before_first", "refuse", "break_after_chunks", "aborted"):
        monkeypatch.setattr(made, name, getattr(made, name))
    monkeypatch.setattr(made, "words", made.words)
    return made


@pytest.fixture
async def chat(page: Page, shared: tuple[FakeEngine, str]) -> Page:
    """The chat page, ready."""
    await page.goto(shared[1])
    await expect(page.locator("#ready")).to_have_text("ready")
    return page


def says(engine: FakeEngine, text: str) -> None:
    """What the engine answers from now on, word by word."""
    engine.words = lambda _: re.findall(r"\S+\s*", text)  # type: ignore[method-assign]


async def say(page: Page, words: str) -> None:
    await page.get_by_role("textbox", name="Message").fill(words)
    await page.keyboard.press("Enter")


async def answered(page: Page, words: str, turn: int = 1) -> None:
    await say(page, words)
    await expect(page.locator(".votes")).to_have_count(turn)


async def test_what_a_model_wrote_can_only_become_text(chat: Page, engine: FakeEngine) -> None:
    said = '<img src=x onerror="document.title=1"> **bold** `code`\n\n- one\n- two\n\n```\n<b>raw</b>\n```'
    says(engine, said + "\n\n[bad](javascript:document.title=2)")
    await answered(chat, "hi")
    words = chat.locator(".reply .words")
    assert await words.locator("img, b, a").count() == 0
    assert (await words.inner_text()).startswith('<img src=x onerror="document.title=1"> bold code')
    parts = words.locator("strong, p > code, li")
    assert await parts.all_inner_texts() == ["bold", "code", "one", "two"]
    assert await words.locator("pre").inner_text() == "<b>raw</b>"
    assert await chat.title() == "Heed"


async def test_headings_lists_in_lists_tables_and_links_are_drawn(chat: Page, engine: FakeEngine) -> None:
    says(engine, "# Hours\n\n3. ten\n   - terrace\n4. six\n\n> said\n\n| day | at |\n|---|---|\n| Sun | 10 |")
    await answered(chat, "hi")
    words = chat.locator(".reply .words")
    await expect(words.get_by_role("heading", name="Hours")).to_be_visible()
    assert await words.locator("ol").get_attribute("start") == "3"
    assert await words.locator("ol > li").count() == 2
    assert await words.locator("ol > li > ul > li").all_inner_texts() == ["terrace"]
    assert await words.locator("blockquote").inner_text() == "said"
    assert await words.locator("th, td").all_inner_texts() == ["day", "at", "Sun", "10"]


async def test_a_link_opens_apart_and_hebrew_runs_from_right_to_left(chat: Page, engine: FakeEngine) -> None:
    says(engine, "See [our page](https://example.org/a?b=1).\n\nשלום לכולם")
    await answered(chat, "hi")
    link = chat.locator(".reply a")
    assert await link.get_attribute("href") == "https://example.org/a?b=1"
    assert await link.get_attribute("rel") == "noopener noreferrer nofollow"
    hebrew = chat.locator(".reply p").last
    assert await hebrew.evaluate("one => getComputedStyle(one).direction") == "rtl"


async def test_a_reload_keeps_the_conversation_and_its_votes(chat: Page) -> None:
    await answered(chat, "first")
    await chat.get_by_role("button", name="Good reply").click()
    await expect(chat.locator(".votes .note")).to_have_text("Stored")
    await chat.reload()
    await expect(chat.locator(".said")).to_have_text(["first", re.compile("hello from base!")])
    await expect(chat.get_by_role("button", name="Good reply")).to_have_attribute("aria-pressed", "true")
    async with chat.expect_request("**/v1/chat/completions") as asked:
        await answered(chat, "second", turn=2)
    said = [message["content"] for message in (await asked.value).post_data_json["messages"]]
    assert said == ["first", "hello from base!", "second"]


async def test_a_reload_forgets_a_chat_that_was_not_to_be_kept_and_one_that_was_left(chat: Page) -> None:
    await chat.get_by_text("Learn from this chat").click()
    await say(chat, "secret")
    await expect(chat.get_by_text("Not kept, so it cannot be voted on.")).to_be_visible()
    await chat.reload()
    await expect(chat.locator("#welcome")).to_be_visible()
    await answered(chat, "kept")
    await chat.get_by_role("button", name="New chat").click()
    async with chat.expect_response("**/v1/aliases/heed"):
        await chat.reload()
    await expect(chat.locator(".said")).to_have_count(0)


async def test_a_comparison_stands_again_after_a_reload_with_its_choice(chat: Page) -> None:
    await chat.get_by_text("Side by side").click()
    await say(chat, "two, please")
    await chat.get_by_role("button", name="Right is better").click()
    await expect(chat.locator(".choice .note")).to_have_text("Stored")
    await chat.reload()
    await expect(chat.locator(".side.chosen h3")).to_have_text("Right")
    await expect(chat.locator(".pair .words")).to_have_text(["hello from base!", "hello from base!"])


@pytest.mark.parametrize("how", ["button", "key"])
async def test_a_reply_can_be_stopped_and_what_came_stays(chat: Page, engine: FakeEngine, how: str) -> None:
    engine.holds_after = 2  # its first word
    await say(chat, "hi")
    await expect(chat.locator(".reply .words")).to_contain_text("hello")
    if how == "button":
        await chat.get_by_role("button", name="Stop").click()
    else:
        await chat.keyboard.press("Escape")
    await expect(chat.get_by_role("button", name="Send")).to_be_visible()
    assert "!" not in await chat.locator(".reply .words").inner_text()
    await expect(chat.locator(".votes")).to_have_count(1)


async def test_a_message_stopped_before_the_first_word_is_given_back(chat: Page, engine: FakeEngine) -> None:
    engine.wait_before_first = 30.0
    await say(chat, "too early")
    await expect(chat.get_by_role("button", name="Stop")).to_be_visible()
    await chat.keyboard.press("Escape")
    await expect(chat.get_by_role("textbox", name="Message")).to_have_value("too early")
    await expect(chat.locator(".said")).to_have_count(0)


async def test_shift_and_enter_break_the_line_and_enter_sends(chat: Page) -> None:
    box = chat.get_by_role("textbox", name="Message")
    await box.press_sequentially("one")
    await box.press("Shift+Enter")
    await box.press_sequentially("two")
    assert await box.input_value() == "one\ntwo"
    async with chat.expect_request("**/v1/chat/completions") as asked:
        await box.press("Enter")
    assert (await asked.value).post_data_json["messages"] == [{"role": "user", "content": "one\ntwo"}]


async def test_a_screen_reader_is_told_the_reply_once_when_it_is_whole(
    chat: Page, engine: FakeEngine
) -> None:
    engine.pause = 0.2
    await chat.evaluate("""() => { window.heard = []; new MutationObserver(() => heard.push(told.textContent))
        .observe(document.getElementById("told"), { childList: true }) }""")
    await answered(chat, "hi")
    assert await chat.evaluate("heard") == ["The reply is being written.", "Reply: hello from base!"]
    assert await chat.get_by_role("log").get_attribute("aria-live") == "off"


async def test_who_scrolled_up_to_read_is_not_pulled_down(chat: Page, engine: FakeEngine) -> None:
    gap = "document.scrollingElement.scrollHeight - scrollY - innerHeight"
    says(engine, LONG)
    engine.pause = 0.01
    await say(chat, "a long one")
    await expect(chat.locator(".reply .words")).to_contain_text("Paragraph 5")
    await chat.wait_for_function(f"{gap} <= 1")  # words come first and the scroll after them
    await chat.mouse.move(500, 300)
    await chat.mouse.wheel(0, -200)
    await expect(chat.get_by_role("button", name="To the newest words")).to_be_visible()
    stood = await settled(chat, "scrollY")  # a wheel's scroll takes a moment
    await expect(chat.locator(".votes")).to_have_count(1)
    assert await chat.evaluate("scrollY") == stood
    await chat.get_by_role("button", name="To the newest words").click()
    await chat.wait_for_function(f"{gap} <= 1")


async def settled(chat: Page, expression: str) -> float:
    """Its value once that has stood for a quarter of a second."""
    values = [math.nan]
    while len(set(values[-5:])) > 1 or len(values) < 6:
        await asyncio.sleep(0.05)
        values.append(await chat.evaluate(expression))
    return values[-1]


async def test_an_engine_that_fails_is_told_of_and_can_be_asked_again(chat: Page, engine: FakeEngine) -> None:
    engine.refuse = (503, "full")
    await say(chat, "hi")
    await expect(chat.get_by_role("alert")).to_have_text("The engine is busy. Try again in 1 s.")
    engine.refuse = None
    await chat.get_by_role("button", name="Try again").click()
    await expect(chat.locator(".reply .words")).to_have_text("hello from base!")
    assert [len(body["messages"]) for body in engine.bodies][-1] == 1


async def test_a_turn_that_failed_is_left_out_of_the_next(chat: Page, engine: FakeEngine) -> None:
    engine.refuse = (503, "full")
    await say(chat, "lost")
    await expect(chat.get_by_role("alert")).to_be_visible()
    engine.refuse = None
    await answered(chat, "found")
    assert engine.bodies[-1]["messages"] == [{"role": "user", "content": "found"}]
    await expect(chat.get_by_role("button", name="Try again")).to_have_count(0)


async def test_who_asks_to_be_forgotten_sees_nothing_of_the_chat_any_more(chat: Page) -> None:
    await answered(chat, "hi")
    await chat.get_by_role("button", name="My data").click()
    await chat.get_by_role("button", name="Forget me").click()
    async with chat.expect_response("**/v1/me") as asked:
        await chat.get_by_role("dialog", name="Forget me?").get_by_role("button", name="Forget me").click()
    assert (await asked.value).status == 202
    await expect(chat.get_by_role("dialog")).to_contain_text("Receipt")
    await expect(chat.locator(".said")).to_have_count(0)
    assert await chat.evaluate("sessionStorage.length") == 0
