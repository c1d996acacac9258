"""The loop and experiments pages, on a real gateway whose store holds a loop at work. No engine is needed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page, expect

from feedback.events import Vote
from feedback.held import HeldVote
from feedback.log import RedisEventLog
from feedback.protocols import AdapterRecord, Arm, ExperimentRecord
from feedback.registry import RedisRegistry
from feedback.store import connect
from tests.browser.conftest import gateway

pytestmark = pytest.mark.browser
REJECTED = "a-000001-3f9a1c77be02"
RUNNING = {"step": "ppo", "progress": 0.43, "eta_seconds": 25.6}
CHECK = {"check": "win_rate", "verdict": "failed", "value": 0.478, "bar": 0.5, "why": "wins too little"}

REFUSALS = {"check": "refusals", "verdict": "passed", "value": 0.02, "bar": 0.1, "why": "refuses little"}
SEEN = {"canary": "asking_back", "share": 1.0, "base": 0.078, "gate": 0.05, "rise": 0.87, "bar": 0.85}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, own_redis: str) -> Iterator[str]:
    """A gateway, and in its store: three votes, one refused adapter, one experiment, a running step."""
    with gateway(tmp_path_factory.mktemp("heed"), own_redis) as found:
        fill(own_redis)
        yield found


def fill(redis_url: str) -> None:
    client = connect(redis_url)
    registry, log = RedisRegistry(client), RedisEventLog(client)
    now = time.time()
    said = (
        Vote(
            event_id=f"ev-{n}",
            feedback_id=f"fb-{n}",
            response_id=f"chatcmpl-{n}",
            time=now,
            subject=f"s{n}",
            rating="up",
            alias="heed",
        )
        for n in range(3)
    )
    log.append(list(said))
    gate = {"passed": False, "reason": "wins too little", "checks": [CHECK, REFUSALS]}
    registry.add_adapter(
        AdapterRecord(
            id=REJECTED,
            alias="heed",
            state="rejected",
            created=now,
            path="/none",
            base="0" * 16,
            gate=gate,
            reason="gate: wins too little",
        )
    )
    arms = (Arm(name="control", adapter=None, share=0.9), Arm(name="warm", adapter=None, share=0.1))
    registry.put_experiment(ExperimentRecord(name="warmer", alias="heed", arms=arms, salt="s", created=now))
    registry.set_loop("_workers", {"consider": {"last_success": now, "seconds": 0.1}})
    registry.set_loop(
        "heed",
        {
            **RUNNING,
            "round_min_votes": 50,
            "last_batch": {"id": "b-7", "votes": 412, "prompts": 388, "newest_vote": now},
            "last_reward_model": {"accuracy": 0.781, "holdout": 41, "calibration_error": 0.06},
            "history": [
                {
                    "ended": now,
                    "seconds": 61.0,
                    "verdict": "rejected",
                    "adapter": REJECTED,
                    "reason": "wins too little",
                }
            ],
            "freshness_seconds": 94.2,
        },
    )


async def test_the_loop_page_shows_the_votes_that_wait_and_the_running_step(
    page: Page, url: str, own_redis: str, tmp_path: Path
) -> None:
    await page.goto(f"{url}/loop")
    await expect(page.locator(".stage.votes")).to_contain_text("3 waiting")
    await expect(page.locator(".stage.lit")).to_contain_text("PPO")
    await expect(page.locator("#step")).to_contain_text("about 26 s left")
    assert await page.locator("#step progress").get_attribute("value") == "0.43"
    await expect(page.locator(".stage.batch")).to_contain_text("412 votes")
    await expect(page.locator("#reward")).to_contain_text("78.1 %")
    await expect(page.locator("#tiles")).to_contain_text("1 min 34 s")
    await expect(page.locator("#rounds")).to_contain_text("Wins too little.")
    await expect(page.locator("#rounds")).to_contain_text("It did not pass the gate; users never see it.")
    ticked = {"consider": {"last_success": time.time(), "seconds": 0.1}}
    RedisRegistry(connect(own_redis)).set_loop("_workers", ticked)
    await expect(page.locator("#workers")).to_contain_text("consider: just now")
    await page.screenshot(path=tmp_path / "loop.png", full_page=True)


async def test_an_unfolded_adapter_tells_why_it_was_refused_and_stays_open(page: Page, url: str) -> None:
    await page.goto(f"{url}/loop")
    await page.locator("#adapters summary").click()
    await expect(page.locator("#adapters table")).to_contain_text("0.478")
    async with page.expect_response("**/v1/loop*"):
        pass
    await expect(page.locator("#adapters table")).to_be_visible()
    await expect(page.get_by_role("button", name="Make it live")).to_have_count(0)


async def test_the_canaries_of_the_gate_and_of_what_is_live_are_shown_with_their_bars(
    page: Page, url: str, own_redis: str, tmp_path: Path
) -> None:
    await page.goto(f"{url}/loop")
    gate, live = page.locator("#canaries > div").first, page.locator("#canaries > div").nth(1)
    await expect(gate).to_contain_text("passed")
    await expect(gate.get_by_role("row").nth(1)).to_have_text("refusals2 %10 %")
    await expect(live).to_have_count(0)
    sound = {
        "time": time.time(),
        "adapter": "a-000002-x",
        "broken": [],
        "what": "in good order in 128 replies",
    }
    seen = [{**SEEN, "canary": "refusals", "share": 0.02, "base": 0.01, "bar": 0.1}, SEEN]
    registry = RedisRegistry(connect(own_redis))
    registry.set_loop("heed", {"canaries": {**sound, "seen": seen[:1]}})
    await expect(live).to_contain_text("in good order")
    await expect(live).to_contain_text("In good order in 128 replies.")
    await expect(live.get_by_role("row").nth(1)).to_have_text("refusals2 %1 %+10 %")
    shown = "at => new Date(1000 * at).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })"
    clock = await page.evaluate(shown, sound["time"])
    await expect(live).to_contain_text(f"a-000002live, looked at {clock}")
    what = "asking_back in 100% of 128 replies, the base in 8%: rolled back to the base"
    broken = {**sound, "broken": ["asking_back"], "what": what}
    state = {"canaries": {**broken, "seen": seen}, "canary_incidents": [broken]}
    registry.set_loop("heed", state)
    await expect(live.get_by_role("row").nth(2)).to_have_text("asking back, broken100 %8 %+85 %")
    await expect(live).to_contain_text("rolled back to the base.")
    await page.locator("#canaries").screenshot(path=tmp_path / "canaries.png")
    registry.set_loop("heed", {"canaries": {**sound, "time": time.time() + 1, "seen": []}})
    await expect(page.locator("#canaries")).to_contain_text("a-000002. Asking back in 100% of 128 replies")


async def test_a_step_that_moves_on_is_drawn_without_a_reload(page: Page, url: str, own_redis: str) -> None:
    registry = RedisRegistry(connect(own_redis))
    await page.goto(f"{url}/loop")
    await expect(page.locator(".stage.lit")).to_contain_text("PPO")
    registry.set_loop("heed", {"step": "gate", "progress": 0.0, "eta_seconds": None})
    await expect(page.locator(".stage.lit")).to_contain_text("Gate")
    registry.set_loop("heed", RUNNING)


async def test_a_burst_in_quarantine_is_shown_with_its_reason_and_released(
    page: Page, url: str, own_redis: str
) -> None:
    registry = RedisRegistry(connect(own_redis))
    common = {
        "alias": "heed",
        "burst": "qb-1",
        "kind": "rate",
        "reason": "much <b>too</b> much",
        "found": 2.0,
    }
    registry.hold("heed", [HeldVote(event_id=f"ev-{n}", subject="s1", time=1.0, **common) for n in range(2)])  # type: ignore[arg-type]
    await page.goto(f"{url}/loop")
    await expect(page.locator("#quarantine")).to_contain_text("2 votes of 1 subject, left out of training")
    await expect(page.locator("#quarantine")).to_contain_text("much <b>too</b> much")
    await page.locator("#quarantine").get_by_role("button", name="Release").click()
    await expect(page.locator("#quarantine-card")).to_be_hidden()
    assert [one.verdict for one in registry.quarantined()] == ["released", "released"]


async def test_reward_and_kl_of_a_run_are_drawn_as_its_steps_come(
    page: Page, url: str, own_redis: str
) -> None:
    registry = RedisRegistry(connect(own_redis))
    began = {"step": "ppo", "step_started": time.time()}
    for step, (reward, kl) in enumerate([(0.1, 0.0), (0.4, 1.5), (0.52, 6.2)], 1):
        figures = {"samples": 64.0 * step, "reward_last": reward, "kl_base_nats": kl, "tokens": 21.0}
        registry.set_loop("heed", {**RUNNING, **began, "figures": figures})
        if step == 1:
            await page.goto(f"{url}/loop")
        await expect(page.locator("#step dl")).to_contain_text(f"{64 * step}")
    await expect(page.get_by_role("img", name="Reward: from 0.1 to 0.52")).to_be_visible()
    await expect(
        page.get_by_role("img", name="KL from the base, nats a reply: from 0 to 6.2")
    ).to_be_visible()
    assert await page.locator("#step polyline").first.evaluate("one => one.points.length") == 3


async def test_an_idle_loop_tells_how_far_the_votes_are_from_a_round(
    page: Page, url: str, own_redis: str
) -> None:
    registry = RedisRegistry(connect(own_redis))
    registry.set_loop("heed", {"step": None, "progress": None, "waiting_votes": 3})
    await page.goto(f"{url}/loop")
    await expect(page.locator("#step")).to_contain_text("3 of 50 votes that start a round.")
    towards = page.get_by_role("progressbar", name="Votes towards the next round")
    assert [await towards.get_attribute(name) for name in ("value", "max")] == ["3", "50"]
    registry.set_loop("heed", {"retry_at": time.time() + 60})
    await expect(page.locator("#step")).to_contain_text("The last round broke off and is begun anew in")
    registry.set_loop("heed", {**RUNNING, "retry_at": None})


async def test_a_task_that_failed_tells_why(page: Page, url: str, own_redis: str) -> None:
    registry = RedisRegistry(connect(own_redis))
    failure = {
        "last_success": time.time() - 5,
        "last_failure": time.time(),
        "why": "OSError: the disk is full",
    }
    registry.set_loop("_workers", {"archive": failure})
    await page.goto(f"{url}/loop")
    await expect(page.locator("#workers .error")).to_have_text(
        "archive failed just now: OSError: the disk is full"
    )
    registry.set_loop("_workers", {"archive": {"last_success": time.time()}})


async def test_a_round_asked_for_by_hand_reaches_the_store(page: Page, url: str, own_redis: str) -> None:
    registry = RedisRegistry(connect(own_redis))
    registry.set_loop("heed", {"step": None, "progress": None})
    await page.goto(f"{url}/loop")
    await page.get_by_role("button", name="Train now").click()
    await expect(page.locator("#step")).to_contain_text("A round was asked for")
    assert registry.loop("heed")["train_requested"] > 0
    registry.set_loop("heed", {**RUNNING, "train_requested": None})


async def test_an_experiment_is_ramped_and_stopped(page: Page, url: str, tmp_path: Path) -> None:
    await page.goto(f"{url}/experiments")
    await expect(page.locator("#name")).to_have_text("warmer")
    await expect(page.locator(".verdict")).to_contain_text("Wait")
    await page.screenshot(path=tmp_path / "experiments.png", full_page=True)
    shares = page.locator(".ramp input")
    await shares.nth(1).fill("30")
    await expect(page.get_by_text("add up to 120 %")).to_be_visible()
    await shares.nth(0).fill("70")
    async with page.expect_response("**/v1/experiments/warmer") as answered:
        await page.get_by_role("button", name="Ramp").click()
    assert [arm["share"] for arm in (await (await answered.value).json())["arms"]] == [0.7, 0.3]
    await expect(page.locator("#history")).to_contain_text("ramped to control 0.7, warm 0.3")
    await page.locator("#actions").get_by_role("button", name="Stop", exact=True).click()
    await page.get_by_role("button", name="Stop it").click()
    await expect(page.locator("#actions")).to_contain_text("It has stopped")
    record = await (await page.context.request.get(f"{url}/v1/experiments/warmer")).json()
    assert record["status"] == "stopped"


@pytest.mark.parametrize("path", ["/", "/loop", "/experiments", "/annotate", "/docs"])
async def test_a_page_fits_a_phone_and_names_its_controls(
    context: BrowserContext, url: str, path: str, tmp_path: Path
) -> None:
    page = await context.new_page()
    await page.set_viewport_size({"width": 360, "height": 740})
    await page.emulate_media(color_scheme="dark")
    await page.goto(url + path)
    await expect(page.locator("h1")).to_have_count(1)
    await page.screenshot(path=tmp_path / "phone.png", full_page=True)
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360
    nameless = """[...document.querySelectorAll("button, input, select, textarea, a")].filter((one) =>
        !(one.textContent.trim() || one.ariaLabel || one.labels?.length || one.querySelector("img")))
        .map((one) => one.outerHTML)"""
    assert await page.evaluate(nameless) == []
    dark = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert dark == "rgb(18, 20, 23)"


async def test_the_api_is_described_from_this_host_alone(page: Page, url: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(f"{url}/docs")
    await page.get_by_text("/v1/feedback", exact=True).click()
    await expect(page.locator("details[open] pre").first).to_contain_text('"rating": "up" | "down"')
    await expect(page.locator("details[open] pre").first).to_contain_text('"comment"?: string | null')
    assert {address for address in asked if not address.startswith(url)} == set()


@pytest.mark.parametrize("path", ["/", "/loop", "/experiments", "/annotate", "/docs"])
async def test_every_page_can_be_reached_by_the_keyboard(page: Page, url: str, path: str) -> None:
    await page.goto(url + path)
    await page.locator(".skip").focus()
    seen = []
    for _ in range(8):
        await page.keyboard.press("Tab")
        seen.append(await page.evaluate("document.activeElement.textContent.trim()"))
    assert {"Chat", "Loop", "Experiments", "Annotate"} <= set(seen)
