"""The picture of the registry: fresh while the store answers, kept while it does not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from feedback.errors import StoreUnavailable
from feedback.memory import MemoryRegistry
from feedback.protocols import AliasRecord, KeyRecord
from serve.routing import RouteTable
from serve.snapshot import Snapshot
from tests.unit.serve.running import until


class Flaky(MemoryRegistry):
    """A registry that can go away, and counts full reads."""

    away = False
    reads = 0

    def generation(self) -> int:
        if self.away:
            raise StoreUnavailable("away")
        return super().generation()

    def aliases(self) -> list[AliasRecord]:
        self.reads += 1
        return super().aliases()


@pytest.fixture
def registry() -> Flaky:
    return Flaky()


def snapshot_of(registry: Flaky, folder: Path) -> Snapshot:
    return Snapshot(registry, "heed", folder / "run" / "keys.json")


async def test_the_default_alias_is_made_by_whoever_comes_first(registry: Flaky, tmp_path: Path) -> None:
    snapshot = snapshot_of(registry, tmp_path)
    assert snapshot.table.aliases.keys() == {"heed"}
    await snapshot.refresh()
    assert registry.alias("heed").version == 1
    await snapshot_of(registry, tmp_path).refresh()
    assert registry.alias("heed").version == 1


async def test_a_change_is_seen_and_told_and_no_change_costs_no_read(registry: Flaky, tmp_path: Path) -> None:
    snapshot = snapshot_of(registry, tmp_path)
    await snapshot.refresh(every_seconds=60)
    told: list[tuple[RouteTable, RouteTable]] = []
    snapshot.listeners.append(lambda before, after: told.append((before, after)))
    while await snapshot.refresh(every_seconds=60):
        pass
    reads = registry.reads
    assert not await snapshot.refresh(every_seconds=60)
    assert registry.reads == reads
    registry.put_alias(AliasRecord(name="support"))
    assert await snapshot.refresh(every_seconds=60)
    assert "support" in told[-1][1].aliases
    assert "support" not in told[-1][0].aliases


async def test_while_the_store_is_away_the_last_picture_stays(registry: Flaky, tmp_path: Path) -> None:
    snapshot = snapshot_of(registry, tmp_path)
    registry.put_alias(AliasRecord(name="support"))
    await snapshot.refresh()
    registry.away = True
    assert not await snapshot.refresh()
    assert not snapshot.store_up
    assert "support" in snapshot.table.aliases


async def test_a_gateway_that_starts_without_the_store_still_knows_the_keys(
    registry: Flaky, tmp_path: Path
) -> None:
    registry.put_key(KeyRecord(id="k-1", digest="d1", scopes=("chat",), created=1.0))
    registry.put_key(KeyRecord(id="k-2", digest="d2", scopes=("chat",), created=1.0, revoked=True))
    await snapshot_of(registry, tmp_path).refresh()
    registry.away = True
    cold = snapshot_of(registry, tmp_path)
    await cold.refresh()
    assert cold.table.keys == {"d1": KeyRecord(id="k-1", digest="d1", scopes=("chat",), created=1.0)}
    file = tmp_path / "run" / "keys.json"
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("junk")
    assert snapshot_of(registry, tmp_path).table.keys


async def test_an_announced_change_is_seen_at_once_and_a_lost_channel_is_asked_for_again(
    registry: Flaky, tmp_path: Path
) -> None:
    snapshot = snapshot_of(registry, tmp_path)
    announced = asyncio.Event()
    began = 0

    async def changes() -> AsyncIterator[None]:
        nonlocal began
        began += 1
        yield
        await announced.wait()
        yield
        raise StoreUnavailable("the channel broke")

    listening = asyncio.create_task(snapshot.listen(changes, 0.01))
    await until(lambda: snapshot.store_up)  # what is announced first is read
    registry.put_alias(AliasRecord(name="support"))
    await asyncio.sleep(0.1)
    assert "support" not in snapshot.table.aliases
    announced.set()
    await until(lambda: "support" in snapshot.table.aliases)
    await until(lambda: began > 1)
    listening.cancel()


async def test_a_read_that_began_earlier_does_not_bring_back_what_was(
    registry: Flaky, tmp_path: Path
) -> None:
    snapshot = snapshot_of(registry, tmp_path)
    for number in range(20):
        registry.put_alias(AliasRecord(name=f"alias-{number}"))
        await asyncio.gather(snapshot.refresh(), snapshot.refresh())
        assert f"alias-{number}" in snapshot.table.aliases


class Slow(Flaky):
    """Counts looks, and takes its time for each."""

    looks = 0

    def generation(self) -> int:
        self.looks += 1
        time.sleep(0.05)
        return super().generation()


async def test_who_waits_for_a_look_sees_what_was_written_before_and_shares_it_with_others(
    tmp_path: Path,
) -> None:
    registry = Slow()
    snapshot = snapshot_of(registry, tmp_path)
    await snapshot.refresh()
    looks, underway = registry.looks, asyncio.create_task(snapshot.refresh(every_seconds=60))
    await asyncio.sleep(0.01)  # this look has begun: it may have missed what comes now
    registry.put_alias(AliasRecord(name="support"))
    await asyncio.gather(*(snapshot.caught_up() for _ in range(50)))
    assert "support" in snapshot.table.aliases
    assert registry.looks == looks + 2
    await underway
    registry.put_alias(AliasRecord(name="sales"))
    await snapshot.caught_up()
    assert "sales" in snapshot.table.aliases


async def test_what_is_not_there_is_looked_for_again_but_not_at_every_junk_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.snapshot.AGAIN_SECONDS", 60.0)
    registry = Slow()
    snapshot = snapshot_of(registry, tmp_path)
    await snapshot.look_again()  # the store was never reached: nothing to wait for
    assert registry.looks == 0
    await snapshot.refresh()
    looks = registry.looks
    for _ in range(100):
        await snapshot.look_again()
    assert registry.looks == looks + 1


async def test_nobody_waits_long_for_a_look_at_a_store_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.snapshot.CATCH_UP_SECONDS", 0.05)
    registry, gone = Flaky(), threading.Event()
    snapshot = snapshot_of(registry, tmp_path)
    await snapshot.refresh()
    generation = registry.generation
    monkeypatch.setattr(registry, "generation", lambda: gone.wait(60) and generation())
    registry.put_alias(AliasRecord(name="support"))
    for _ in range(3):
        await snapshot.caught_up()
    assert "support" not in snapshot.table.aliases  # they went on before it answered
    gone.set()
    await snapshot.refresh(every_seconds=60)
    assert "support" in snapshot.table.aliases
