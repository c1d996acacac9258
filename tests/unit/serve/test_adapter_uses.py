"""Gateways hear from each other what is in use."""

from __future__ import annotations

import time
from typing import Any

import pytest

from feedback.errors import StoreUnavailable
from feedback.memory import MemoryRegistry
from serve.adapter_uses import Uses
from serve.engines import Engine


def engine(**chats: int) -> Engine:
    made = Engine("engine-0", client=None)  # type: ignore[arg-type]
    for adapter, number in chats.items():
        made.in_flight[adapter] = number
        made.used[adapter] = time.time()
    return made


async def test_what_one_gateway_is_asked_for_is_busy_for_the_other_for_a_while() -> None:
    registry = MemoryRegistry()
    here, there = Uses(registry), Uses(registry)
    here.note("a-1", time.time())
    here.note("a-2", time.time() - 30)
    await here.share()
    await there.share()
    assert there.busy([]) == {"a-1"}
    assert there.last == here.last
    assert there.asked == []
    assert here.busy([]) == set()
    assert here.asked == ["a-1", "a-2"]


async def test_chats_under_way_are_told_for_as_long_as_they_last() -> None:
    registry = MemoryRegistry()
    here, there = Uses(registry), Uses(registry)
    here.note_chats([engine(**{"a-1": 2, "base": 1})])
    await here.share()
    await there.share()
    assert there.busy([]) == {"a-1"}
    assert there.busy([engine(**{"a-9": 1})]) == {"a-1", "a-9"}


async def test_what_chats_wait_for_comes_first_in_their_order() -> None:
    uses = Uses(MemoryRegistry())
    uses.note("lately", time.time())
    uses.note("long ago", time.time() - 3600)
    for adapter in ("first", "second", "first"):
        uses.waiting(adapter, +1)
    assert uses.asked[:2] == ["first", "second"]
    assert "long ago" not in uses.asked
    assert uses.busy([]) == {"first", "second"}
    for adapter in ("first", "first", "second"):
        uses.waiting(adapter, -1)
    assert uses.busy([]) == set()


async def test_without_the_store_a_gateway_goes_by_its_own_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = MemoryRegistry()
    uses = Uses(registry)

    def away(_: Any) -> dict[str, float]:
        raise StoreUnavailable("away")

    monkeypatch.setattr(registry, "uses", away)
    uses.note("a-1", time.time())
    await uses.share()
    assert not uses.shared
    assert uses.asked == ["a-1"]
