"""What every registry promises about leases."""

from __future__ import annotations

import time

import pytest

from feedback.errors import LeaseLost
from feedback.protocols import Registry
from tests.contract.making import adapter


def run_out(registry: Registry, lease: str, token: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            registry.check(lease, token)
        except LeaseLost:
            return
        time.sleep(0.01)
    raise AssertionError("the lease never ran out")


def test_one_holder_at_a_time(registry: Registry) -> None:
    token = registry.acquire("train", "a", 60)
    assert token == 1
    assert registry.acquire("train", "b", 60) is None
    registry.check("train", token)
    assert registry.acquire("gate", "b", 60) == 1


def test_the_holder_renews_with_the_same_token(registry: Registry) -> None:
    assert registry.acquire("train", "a", 2.0) == 1
    assert registry.acquire("train", "a", 60) == 1
    time.sleep(2.1)
    registry.check("train", 1)


def test_a_lease_that_ran_out_goes_to_the_next_with_a_higher_token(registry: Registry) -> None:
    first = registry.acquire("train", "a", 0.05)
    assert first is not None
    run_out(registry, "train", first)
    assert not registry.held("train")
    second = registry.acquire("train", "b", 60)
    assert second == first + 1
    with pytest.raises(LeaseLost):
        registry.check("train", first)
    registry.check("train", second)


def test_coming_back_to_ones_own_lease_after_it_ran_out_needs_a_new_token(registry: Registry) -> None:
    first = registry.acquire("train", "a", 0.05)
    assert first is not None
    run_out(registry, "train", first)
    assert registry.acquire("train", "a", 60) == first + 1


def test_only_the_holder_releases(registry: Registry) -> None:
    token = registry.acquire("train", "a", 60)
    assert token is not None
    registry.release("train", "b")
    registry.check("train", token)
    assert registry.held("train")
    registry.release("train", "a")
    assert not registry.held("train")
    with pytest.raises(LeaseLost):
        registry.check("train", token)
    assert registry.acquire("train", "b", 60) == token + 1


def test_a_lease_nobody_took_is_lost(registry: Registry) -> None:
    with pytest.raises(LeaseLost):
        registry.check("train", 1)


def test_who_holds_the_lease_adds_an_adapter_and_who_lost_it_does_not(registry: Registry) -> None:
    first = registry.acquire("round:heed", "a", 0.05)
    assert first is not None
    run_out(registry, "round:heed", first)
    with pytest.raises(LeaseLost):
        registry.add_adapter(adapter("a-1"), ("round:heed", first))
    second = registry.acquire("round:heed", "b", 60)
    assert second is not None
    with pytest.raises(LeaseLost):
        registry.add_adapter(adapter("a-1"), ("round:heed", first))
    assert registry.adapters() == []
    registry.add_adapter(adapter("a-2"), ("round:heed", second))
    assert [record.id for record in registry.adapters()] == ["a-2"]
