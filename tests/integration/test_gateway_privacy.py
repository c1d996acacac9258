"""What is on disk after chats: nothing of what was not to be stored, no raw user id, and no personal data that is
redacted.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pyarrow.parquet as pq
import pytest
import redis

from feedback.archive import Archive
from feedback.log import RedisEventLog
from feedback.memory import MemoryEventLog, MemoryRegistry
from feedback.spool import Spool
from serve.gateway import Stores
from tests.gateways import base, fake
from tests.servers import gateway_server, stop_group, valkey_server
from tests.unit.serve.fake_engine import FakeEngine
from tests.unit.serve.running import Running, running, until

__all__ = ["base", "fake"]
MAIL = "ann.lee@example.org"
KEY = {"Idempotency-Key": "one-key"}


@pytest.fixture
async def up(tmp_path: Path, store: redis.Redis, valkey_url: str, fake: FakeEngine) -> AsyncIterator[Running]:
    """A gateway that redacts."""
    fake.says = ["Dear ", MAIL, "!"]
    async with running(tmp_path, engines=[fake.url], redis_url=valkey_url, redact="patterns") as gateway:
        yield gateway


def everything(*folders: Path) -> bytes:
    """All bytes of all files, Parquet and zlib unpacked beside them."""
    found = b""
    for path in sorted(file for folder in folders for file in folder.rglob("*") if file.is_file()):
        data = path.read_bytes()
        found += path.name.encode() + b"\0" + data
        if path.suffix == ".parquet":
            found += repr(pq.read_table(path).to_pylist()).encode()
        elif data[:1] == b"\x78":
            found += zlib.decompress(data)
    return found


async def test_the_model_reads_everything_and_the_store_nothing_personal(
    up: Running, fake: FakeEngine, store: redis.Redis, tmp_path: Path
) -> None:
    asked = [{"role": "user", "content": f"write to {MAIL} about 4111 1111 1111 1111"}]
    _, answer, _ = await up.chat(messages=asked)
    assert MAIL in fake.bodies[-1]["messages"][-1]["content"]
    assert answer["choices"][0]["message"]["content"] == f"Dear {MAIL}!"
    said = {
        "response_id": answer["id"],
        "rating": "down",
        "comment": f"not {MAIL}",
        "correction": f"Hi {MAIL}",
    }
    assert (await up.call("POST", "/v1/feedback", said, KEY))[0] == 201
    assert (await up.call("POST", "/v1/feedback", said, KEY))[
        0
    ] == 200  # a retry is the same saying, not a clash
    report = {"response_id": answer["id"], "kind": "rude", "comment": f"ask {MAIL}"}
    assert (await up.call("POST", "/v1/reports", report, KEY))[1]["comment"] == "ask [EMAIL]"
    assert (await up.call("POST", "/v1/reports", report, KEY))[1]["comment"] == "ask [EMAIL]"
    _, held = await up.call("GET", f"/v1/feedback/{answer['id']}")
    assert (held["comment"], held["correction"]) == ("not [EMAIL]", "Hi [EMAIL]")
    log = RedisEventLog(store)
    await until(lambda: log.backlog().events == 3)
    entries = log.claim("test", 9)
    response = next(one.event for one in entries if one.event.event_id == answer["id"])
    assert response.messages == ({"role": "user", "content": "write to [EMAIL] about [CARD]"},)  # type: ignore[union-attr]
    assert response.text == "Dear [EMAIL]!"  # type: ignore[union-attr]
    Archive(tmp_path / "archive").write(entries)
    held_in_redis = b"".join(store.dump(name) or b"" for name in store.keys("*"))
    assert MAIL.encode() not in everything(tmp_path) + held_in_redis
    _, rated = await up.call("GET", "/v1/annotations/next?user=rater")
    assert rated["messages"] == [{"role": "user", "content": "write to [EMAIL] about [CARD]"}]


async def test_a_step_that_fails_keeps_the_vote_and_none_of_its_text(
    tmp_path: Path, fake: FakeEngine
) -> None:
    stores = Stores(MemoryEventLog(), MemoryRegistry())
    broken = "tests.integration.test_gateway_privacy:broken"
    async with running(
        tmp_path, engines=[fake.url], redis_url="redis://127.0.0.1:1/0", stores=stores, redact=broken
    ) as up:
        _, answer, _ = await up.chat()
        said = {"response_id": answer["id"], "rating": "up", "comment": "nice"}
        assert (await up.call("POST", "/v1/feedback", said))[0] == 201
        _, held = await up.call("GET", f"/v1/feedback/{answer['id']}")
        assert (held["rating"], held["comment"]) == ("up", None)
        await until(lambda: stores.log.backlog().events == 2)
        assert up.gateway.metrics.registry.get_sample_value("heed_redactions_failed_total") == 2


def broken(text: str) -> str:
    """A step that cannot."""
    raise RuntimeError(text)


async def test_of_a_chat_that_is_not_to_be_stored_no_file_has_a_word_and_none_has_a_raw_user(
    tmp_path: Path, fake: FakeEngine
) -> None:
    fake.says = ["reply-", "marker-", "9c1"]
    with ExitStack() as life:
        url, valkey = life.enter_context(valkey_server(tmp_path / "valkey"))
        starting = gateway_server(tmp_path / "gateway", url, fake.url)
        gateway, _ = await asyncio.to_thread(life.enter_context, starting)  # the fake engine is in this loop
        async with aiohttp.ClientSession(gateway) as http:

            async def chat(text: str, **more: Any) -> dict[str, Any]:
                body = {"model": "heed", "messages": [{"role": "user", "content": text}], **more}
                async with http.post("/v1/chat/completions", json=body) as answer:
                    told: dict[str, Any] = await answer.json()
                    assert answer.status == 200, told
                    return told

            async def vote(response_id: str, user: str) -> int:
                body = {"response_id": response_id, "rating": "up", "user": user}
                async with http.post("/v1/feedback", json=body) as answer:
                    return answer.status

            for user in ({"user": "raw-user-5d2"}, {"safety_identifier": "raw-safety-5d2"}):
                told = await chat("prompt-marker-9c1", store=False, **user)
                assert await vote(told["id"], next(iter(user.values()))) == 409
            fake.says = ["kept-", "reply-", "5e3"]
            told = await chat("kept-prompt-5e3", user="raw-user-5d2")
            assert await vote(told["id"], "raw-user-5d2") == 201
            with redis.Redis.from_url(url) as client:
                log = RedisEventLog(client)
                await until(lambda: log.backlog().events == 4)
                Archive(tmp_path / "gateway" / "data" / "archive").write(log.claim("test", 9))
            stop_group(valkey)  # the next goes to the spool
            fake.says = ["reply-", "marker-", "9c1"]
            await chat("prompt-marker-9c1", store=False, user="raw-user-5d2")
            spool = Spool(tmp_path / "gateway" / "data" / "spool")
            await until(lambda: spool.pending() == 1)
        found = everything(tmp_path)
    for marker in (b"prompt-marker-9c1", b"reply-marker-9c1", b"marker-", b"raw-user-5d2", b"raw-safety-5d2"):
        assert marker not in found, marker
    assert (
        found.count(b"kept-prompt-5e3") >= 2
    )  # the search finds what is there: in the log's file, in the archive
    assert found.count(b"kept-reply-5e3") >= 2
