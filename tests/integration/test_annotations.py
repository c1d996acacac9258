"""The raters' queue over real HTTP: what is offered, to whom, and what an answer says."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis

from feedback import keys
from feedback.archive import Archive
from feedback.events import Comparison, Response
from feedback.log import RedisEventLog
from feedback.rating import Item, Option, item_id
from feedback.rating_queue import RedisRatingQueue
from tests.gateways import fake, up
from tests.unit.serve.fake_engine import FakeEngine
from tests.unit.serve.running import Running, running, until

__all__ = ["fake", "up"]
TEXTS = ["Wren.", "A robin, I think.", "No idea.", "A stone.", "Seven."]


def item(prompt: str, replies: int = 2, doubt: float = 1.0) -> Item:
    messages = ({"role": "user", "content": prompt},)
    options = tuple(Option(text, f"a-{n:06d}-0123456789ab") for n, text in enumerate(TEXTS[:replies]))
    return Item(item_id(messages), messages, options, doubt, "s-author")


@pytest.fixture
def queue(store: redis.Redis) -> RedisRatingQueue:
    return RedisRatingQueue(store)


async def following(up: Running, rater: str) -> tuple[int, Any]:
    return await up.call("GET", f"/v1/annotations/next?alias=heed&user={rater}")


def logged(store: redis.Redis, kind: type) -> list[Any]:
    return [
        entry.event
        for entry in RedisEventLog(store).claim("test", 1000, 0.0)
        if isinstance(entry.event, kind)
    ]


async def test_the_most_doubted_pair_is_offered_blind_and_its_answer_names_the_options(
    up: Running, queue: RedisRatingQueue, store: redis.Redis
) -> None:
    queue.fill("heed", [item("Name a bird."), item("Name a bird, quickly.", doubt=9.0)], 2)
    status, task = await following(up, "ann")
    assert (status, task["object"]) == (200, "annotation")
    assert task["messages"] == [{"role": "user", "content": "Name a bird, quickly."}]
    assert sorted(choice["message"]["content"] for choice in task["choices"]) == sorted(TEXTS[:2])
    assert "a-0" not in json.dumps(task)
    assert "s-author" not in json.dumps(task)
    left = task["choices"][0]
    said = {"comparison_id": task["comparison_id"], "preferred": 0, "user": "ann"}
    status, answer = await up.call("POST", "/v1/comparisons", said)
    assert (status, answer["ranking"][0]) == (201, [left["response_id"]])
    events = RedisEventLog(store).claim("test", 100, 0.0)
    copies = {one.event.response_id: one.event for one in events if isinstance(one.event, Response)}
    (told,) = [one.event for one in events if isinstance(one.event, Comparison)]
    first = TEXTS.index(left["message"]["content"])
    assert (told.item, told.order) == (
        item("Name a bird, quickly.").name,
        ((first,), (1 - first,)),
    )
    assert [copies[group[0]].text for group in told.ranking] == [TEXTS[first], TEXTS[1 - first]]
    assert {(copy.subject, copy.arm) for copy in copies.values()} == {(told.subject, "annotation")}
    assert copies[left["response_id"]].adapter == f"a-{first:06d}-0123456789ab"


@pytest.mark.parametrize("replies", [3, 5])
async def test_more_than_two_replies_are_ranked_by_their_ids(
    up: Running, queue: RedisRatingQueue, store: redis.Redis, replies: int
) -> None:
    queue.fill("heed", [item("Name a bird.", replies)], 2)
    _, task = await following(up, "ann")
    assert task["comparison_id"] is None
    assert len(task["choices"]) == replies
    ids = {TEXTS.index(one["message"]["content"]): one["response_id"] for one in task["choices"]}
    ranking = [[ids[1]], [ids[n] for n in range(replies) if n != 1]]
    assert (await up.call("POST", "/v1/comparisons", {"ranking": ranking, "user": "ann"}))[0] == 201
    (told,) = logged(store, Comparison)
    assert told.order == ((1,), tuple(n for n in range(replies) if n != 1))
    assert (await up.call("POST", "/v1/comparisons", {"ranking": ranking, "user": "bob"}))[0] == 404


async def test_a_rater_may_label_and_vote_on_what_it_was_shown_and_nobody_else(
    up: Running, queue: RedisRatingQueue
) -> None:
    queue.fill("heed", [item("Name a bird.")], 2)
    _, task = await following(up, "ann")
    label = {"response_id": task["choices"][0]["response_id"], "labels": {"tone": 0.5}}
    assert (await up.call("POST", "/v1/labels", {**label, "user": "ann"}))[0] == 201
    assert (await up.call("POST", "/v1/labels", {**label, "user": "bob"}))[0] == 404


async def test_the_alias_says_how_many_raters_see_a_prompt_and_for_how_long_it_waits(
    up: Running, queue: RedisRatingQueue
) -> None:
    queue.fill("heed", [item("Name a bird.")], 2)
    terms = {"annotation_overlap": 1, "annotation_seconds": 3.0}
    assert (await up.call("PATCH", "/v1/aliases/heed", {"thresholds": terms}))[0] == 200
    await until(lambda: up.gateway.table.alias("heed").thresholds == terms)
    assert (await following(up, "ann"))[0] == 200
    assert (await following(up, "bob"))[0] == 404
    await asyncio.sleep(3.0)
    assert (await following(up, "ann"))[0] == 404
    status, task = await following(up, "bob")
    assert status == 200
    said = {"comparison_id": task["comparison_id"], "preferred": "tie", "user": "bob"}
    assert (await up.call("POST", "/v1/comparisons", said))[0] == 201
    await asyncio.sleep(3.1)
    assert (await following(up, "eve"))[0] == 404


async def test_two_gateways_and_many_raters_at_once_share_the_overlap(
    tmp_path: Path, up: Running, queue: RedisRatingQueue, valkey_url: str, fake: FakeEngine
) -> None:
    queue.fill("heed", [item(f"Name bird {n}.") for n in range(5)], 2)
    async with running(tmp_path / "other", engines=[fake.url], redis_url=valkey_url) as other:
        asked = [
            following(gateway, f"rater-{n}") for n in range(8) for gateway in (up, other) for _ in range(3)
        ]
        answers = await asyncio.gather(*asked)
    # The two gateways have secrets of their own here, so that each has eight raters.
    seen = Counter(task["messages"][0]["content"] for status, task in answers if status == 200)
    assert seen == {f"Name bird {n}.": 2 for n in range(5)}


async def test_fresh_replies_become_an_item_that_the_next_rater_is_shown(
    up: Running, store: redis.Redis, fake: FakeEngine
) -> None:
    await up.chat(messages=[{"role": "user", "content": "What is tea?"}], user="alice")
    _, first = await following(up, "ann")
    said = {"comparison_id": first["comparison_id"], "preferred": 1, "user": "ann"}
    assert (await up.call("POST", "/v1/comparisons", said))[0] == 201
    _, second = await following(up, "bob")
    texts = [sorted(one["message"]["content"] for one in task["choices"]) for task in (first, second)]
    assert texts[0] == texts[1]
    assert first["messages"] == second["messages"] == [{"role": "user", "content": "What is tea?"}]
    assert (await following(up, "eve"))[0] == 404


def archived(up: Running, store: redis.Redis) -> None:
    """What the worker does: all that was logged is in the archive."""
    log = RedisEventLog(store)
    entries = log.claim("test", 1000, 0.0)
    Archive(up.gateway.settings.archive_dir).write(entries)
    log.ack([entry.position for entry in entries])


async def test_raters_are_told_by_how_far_they_agree_and_alpha_over_all(
    up: Running, queue: RedisRatingQueue, store: redis.Redis
) -> None:
    _, nobody = await up.call("GET", "/v1/annotations/raters")
    assert (nobody["data"], nobody["alpha"], nobody["things"]) == ([], {"ordinal": None, "nominal": None}, 0)
    assert (await up.call("PATCH", "/v1/aliases/heed", {"thresholds": {"annotation_overlap": 3}}))[0] == 200
    await until(lambda: up.gateway.table.alias("heed").thresholds)
    queue.fill("heed", [item(f"Name bird {n}.") for n in range(4)], 3)
    for rater in ("ann", "bob", "eve"):
        for _ in range(4):
            _, task = await following(up, rater)
            wren = [one["message"]["content"] for one in task["choices"]].index("Wren.")
            chosen = 1 - wren if rater == "eve" else wren  # whichever side it stands on
            if rater == "ann" and task["messages"][0]["content"].endswith("3."):
                chosen = 1 - wren
            said = {"comparison_id": task["comparison_id"], "preferred": chosen, "user": rater}
            assert (await up.call("POST", "/v1/comparisons", said))[0] == 201
    archived(up, store)
    status, told = await up.call("GET", "/v1/annotations/raters?alias=heed")
    assert (status, told["things"], told["shared"]) == (200, 4, 4)
    assert [one["agreement"] for one in told["data"]] == [0.5, 0.375, 0.125]
    assert all(one["name"].startswith("rater-") and one["items"] == 4 for one in told["data"])
    # By hand: of 24 ordered pairs 16 differ; 7 of 12 values are for the wren: 1 - 11 * 8 / (2 * 7 * 5).
    assert told["alpha"]["nominal"] == pytest.approx(1 - 11 * 8 / 70)


async def test_who_settles_a_report_sees_the_prompt_and_the_reply(up: Running, store: redis.Redis) -> None:
    _, chat, _ = await up.chat(messages=[{"role": "user", "content": "What is tea?"}])
    assert (await up.call("POST", "/v1/reports", {"response_id": chat["id"], "kind": "rude"}))[0] == 201
    _, found = await up.call("GET", "/v1/reports")
    assert [(one["text"], one["messages"]) for one in found["data"]] == [(None, None)]
    await until(lambda: store.xlen(keys.EVENTS) == 2)
    archived(up, store)
    _, found = await up.call("GET", "/v1/reports")
    (one,) = found["data"]
    assert one["text"] == chat["choices"][0]["message"]["content"]
    assert one["messages"] == [{"role": "user", "content": "What is tea?"}]
    assert (await up.call("POST", f"/v1/reports/{one['id']}", {"verdict": "dismissed"}))[0] == 200
    assert (await up.call("GET", "/v1/reports"))[1]["data"] == []
