"""What a rater is shown: an item of the queue under ids of its own, or two fresh replies where the queue has none.

Replies that others were given are shown again as copies: the rater's own responses, with signed ids that only it can
speak about, and logged like any other, so that what it says of them is learnt from. Nothing in them tells who wrote
which, and the sides are at random.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, cast

from starlette.concurrency import run_in_threadpool

from feedback.events import Message, Response
from feedback.ids import mint_comparison, mint_response, sides
from feedback.rating import Item, Offer, Option, about, item_id
from serve.auth import Caller
from serve.chat_request import ChatRequest
from serve.comparing import open_both, paired, whole_comparison
from serve.errors import NotFound
from serve.gateway import Gateway
from serve.prompts import COPY, Prompt, archived_prompts, without
from serve.record import Record

ANSWER_TOKENS = 256


async def next_item(gateway: Gateway, alias: str, caller: Caller, rater: str, began: float) -> dict[str, Any]:
    """The body of the next item for the rater. Raises NotFound when there is none, StoreUnavailable."""
    overlap, life = _terms(gateway, alias)
    found = await run_in_threadpool(gateway.rating.take, alias, rater, overlap, life)
    if found is not None and found[1] is not None:
        return await shown(gateway, alias, found[1], rater)
    prompts = await run_in_threadpool(_prompts, gateway, alias)
    found = await run_in_threadpool(gateway.rating.take, alias, rater, overlap, life, list(prompts))
    if found is None:
        raise NotFound("there is no prompt left that you have not seen", code="no_annotation")
    name, item = found
    if item is not None:
        return await shown(gateway, alias, item, rater)
    return await _fresh(gateway, caller, prompts[name], rater, began)


def _terms(gateway: Gateway, alias: str) -> tuple[int, float]:
    """How many raters are asked about one prompt, and how long an offer waits for its answer, seconds."""
    own, default = gateway.table.alias(alias).thresholds or {}, gateway.settings
    overlap = own.get("annotation_overlap", default.annotation_overlap)
    return int(overlap), float(own.get("annotation_seconds", default.annotation_seconds))


def _prompts(gateway: Gateway, alias: str) -> dict[str, Prompt]:
    """The newest prompts of the alias by their item's id, newest first: those in memory, then the archive's."""
    recent = [prompt for prompt in reversed(list(gateway.chats.recent_prompts)) if prompt.alias == alias]
    guidelines = gateway.table.alias(alias).guidelines
    archived = archived_prompts(gateway.settings.archive_place, alias, guidelines)
    found: dict[str, Prompt] = {}
    for prompt in (*recent, *archived):
        found.setdefault(item_id(prompt.messages), prompt)
    return found


async def shown(gateway: Gateway, alias: str, item: Item, rater: str) -> dict[str, Any]:
    """Copies of the item's replies, logged, and their body."""
    order = list(range(len(item.options)))
    gateway.draw.shuffle(order)
    comparison_id, ids = _minted(gateway, rater, len(order))
    copies = [
        Response(
            event_id=name,
            response_id=name,
            time=time.time(),
            alias=alias,
            adapter=item.options[place].adapter,
            arm=COPY,
            subject=rater,
            author=item.author or None,
            comparison_id=comparison_id,
            side=side if comparison_id else None,
            messages=item.messages,
            text=item.options[place].text,
            finish_reason="stop",
        )
        for side, (name, place) in enumerate(zip(ids, order, strict=True))
    ]
    await asyncio.gather(*(gateway.writer.write(copy) for copy in copies))
    offer = Offer(item.id, item.name, rater, dict(zip(ids, order, strict=True)))
    await _note(gateway, comparison_id or about(ids), offer)
    choices = [
        {
            "index": side,
            "response_id": copy.response_id,
            "message": {"role": "assistant", "content": copy.text},
        }
        for side, copy in enumerate(copies)
    ]
    return _body(gateway, alias, item.messages, {"comparison_id": comparison_id, "choices": choices})


def _minted(gateway: Gateway, rater: str, count: int) -> tuple[str | None, Sequence[str]]:
    """Two replies are a comparison; more are ranked by their own ids."""
    now = time.time()
    if count == 2:
        comparison_id = mint_comparison(gateway.secrets, rater, now=now)
        return comparison_id, sides(gateway.secrets, comparison_id, rater)
    return None, [mint_response(gateway.secrets, rater, stored=True, now=now) for _ in range(count)]


async def _fresh(
    gateway: Gateway, caller: Caller, prompt: Prompt, rater: str, began: float
) -> dict[str, Any]:
    """Two new replies to the prompt, which then are an item for others."""
    asked = ChatRequest(
        model=prompt.alias,
        messages=[dict(message) for message in prompt.messages],
        sampling={"temperature": 1.0, "max_tokens": ANSWER_TOKENS},
    )
    comparison_id, records = paired(gateway, caller, asked, rater, began)
    for record in records:
        record.author = prompt.subject
    with gateway.limits.chat(caller, rater, responses=2):
        upstreams = await open_both(gateway, records)
        body = whole_comparison(gateway.chats, comparison_id, records, upstreams)
    events = [await run_in_threadpool(_kept, gateway, record) for record in records]
    options = tuple(Option(event.text, event.adapter) for event in events)
    item = Item(item_id(prompt.messages), events[0].messages, options, author=prompt.subject)
    tells = options[0].text != options[1].text and all(event.messages and event.text for event in events)
    if tells and await run_in_threadpool(gateway.rating.add, prompt.alias, item) == item:
        # else another rater was faster, and these two are no item
        told = {event.response_id: side for side, event in enumerate(events)}
        await _note(gateway, comparison_id, Offer(item.id, item.name, rater, told))
    return _body(gateway, prompt.alias, item.messages, {**body, "comparison_id": comparison_id})


def _kept(gateway: Gateway, record: Record) -> Response:
    """The response as it is stored, which others may be shown."""
    return cast("Response", gateway.chats.redact(record.event()))


async def _note(gateway: Gateway, name: str, offer: Offer) -> None:
    await run_in_threadpool(gateway.rating.note, name, offer, gateway.settings.response_life_seconds)


def _body(
    gateway: Gateway, alias: str, messages: tuple[Message, ...], body: dict[str, Any]
) -> dict[str, Any]:
    told = {"id": body["comparison_id"] or body["choices"][0]["response_id"], "created": int(time.time())}
    asked = without(gateway.table.alias(alias).guidelines, messages)
    return {**told, "model": alias, **body, "object": "annotation", "messages": list(asked)}
