"""No kind of bad adapter reaches an engine, neither published in the data directory nor imported."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from tests.unit.serve.fake_engine import FakeEngine
from tests.unit.serve.folders import PLAIN, adapter_folder, record_of
from tests.unit.serve.running import Running, running, until
from tests.unit.serve.spoiled import BAD

GOOD = f"a-000999-{PLAIN}"


@pytest.fixture
async def up(
    tmp_path: Path, store: redis.Redis, valkey_url: str, fake: FakeEngine, base: Path
) -> AsyncIterator[Running]:
    async with running(
        tmp_path / "data",
        engines=[fake.url],
        redis_url=valkey_url,
        model=str(base),
        import_dirs=str(tmp_path / "made"),
    ) as gateway:
        yield gateway


async def test_every_bad_adapter_is_rejected_by_name_of_its_fault_before_any_engine_is_asked(
    up: Running, fake: FakeEngine, base: Path
) -> None:
    registry, root = up.gateway.registry, up.gateway.settings.adapters_dir
    expected = {}
    for number, kind in enumerate(BAD, start=1):
        name = f"a-{number:06d}-{PLAIN}"
        kind.spoil(adapter_folder(root, name, base))
        expected[name] = kind.why
        registry.add_adapter(record_of(name))
    for name in ("../../outside", f"a-000001-{PLAIN}/../..", "nowhere"):
        registry.add_adapter(record_of(name))
        expected[name] = "is no adapter id"
    await until(lambda: all(record.state == "rejected" for record in registry.adapters()), 60)
    reasons = {record.id: record.reason or "" for record in registry.adapters()}
    assert {name for name, why in expected.items() if why not in reasons[name]} == set()
    assert fake.loads == []
    adapter_folder(root, GOOD, base)
    fake.log_probability[GOOD] = -0.5
    registry.add_adapter(record_of(GOOD))
    await until(lambda: GOOD in up.gateway.pool.engines[0].ready)
    assert fake.loads == [GOOD]


async def test_every_bad_folder_is_refused_by_name_of_its_fault_when_imported(
    up: Running, fake: FakeEngine, base: Path, tmp_path: Path
) -> None:
    wrong = {}
    await until(lambda: up.gateway.pool.any_up)
    for number, kind in enumerate(kind for kind in BAD if kind.imported):
        folder = adapter_folder(tmp_path / "made", f"{number}", base)
        kind.spoil(folder)
        (folder / "manifest.json").unlink()
        status, body = await up.call("POST", "/v1/adapters", {"path": str(folder)})
        if (status, body["error"]["param"]) != (422, "path") or kind.why not in body["error"]["message"]:
            wrong[kind.name] = (status, body)
    assert wrong == {}
    assert fake.loads == []
    assert list(up.gateway.settings.adapters_dir.glob("*")) == []
    assert up.gateway.registry.adapters() == []


@pytest.mark.parametrize("path", ["/etc", "../..", "~nobody-at-all/x", "\0", "made/../../../etc", "x" * 5000])
async def test_a_path_that_leads_elsewhere_is_refused(up: Running, fake: FakeEngine, path: str) -> None:
    await until(lambda: up.gateway.pool.any_up)
    status, body = await up.call("POST", "/v1/adapters", {"path": path})
    assert (status, body["error"]["param"]) == (422, "path")
    assert fake.loads == []


async def test_a_link_out_of_the_allowed_folders_is_refused(
    up: Running, fake: FakeEngine, base: Path, tmp_path: Path
) -> None:
    await until(lambda: up.gateway.pool.any_up)
    outside = adapter_folder(tmp_path / "outside", "x", base)
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "x").symlink_to(outside)
    status, body = await up.call("POST", "/v1/adapters", {"path": str(tmp_path / "made" / "x")})
    assert status == 422
    assert "HEED_IMPORT_DIRS" in body["error"]["message"]
    assert fake.loads == []


async def test_a_failed_import_leaves_nothing_behind(
    up: Running, fake: FakeEngine, base: Path, tmp_path: Path
) -> None:
    await until(lambda: up.gateway.pool.any_up)
    folder = adapter_folder(tmp_path / "made", "x", base)
    (folder / "manifest.json").unlink()
    fake.load_status = 500
    status, _ = await up.call("POST", "/v1/adapters", {"path": str(folder)})
    assert status >= 500
    await asyncio.sleep(0.05)
    assert list(up.gateway.settings.adapters_dir.glob("*")) == []
    fake.load_status = 200
    status, _ = await up.call("POST", "/v1/adapters", {"path": str(folder)})
    assert status == 201
