"""The quarantine over HTTP: who may look, what is told, and what a verdict does."""

from __future__ import annotations

from pathlib import Path

import redis

from deploy.access_keys import Terms, create_key
from feedback.held import HeldVote
from feedback.registry import RedisRegistry
from feedback.store import connect
from tests.unit.serve.fake_engine import FakeEngine
from tests.unit.serve.running import Running, running, until


def held(event: str, burst: str, time: float) -> HeldVote:
    return HeldVote(
        event_id=event,
        alias="heed",
        burst=burst,
        kind="rate",
        reason="much",
        subject="s-1",
        time=time,
        found=9.0,
    )


async def test_a_burst_is_listed_decided_and_counted(up: Running) -> None:
    registry = up.gateway.registry
    registry.hold("heed", [held("ev-1", "qb-1", 1.0), held("ev-2", "qb-1", 2.0), held("ev-3", "qb-2", 3.0)])
    status, told = await up.call("GET", "/v1/quarantine")
    assert (status, [one["id"] for one in told["data"]]) == (200, ["ev-3", "ev-1", "ev-2"])
    assert told["data"][1] == {
        "id": "ev-1", "object": "quarantine.vote", "event_id": "ev-1", "alias": "heed", "burst": "qb-1", "kind": "rate",
        "reason": "much", "subject": "s-1", "time": 1.0, "found": 9.0, "verdict": None, "decided": None,
    }  # fmt: skip
    status, said = await up.call("POST", "/v1/quarantine/qb-1", {"verdict": "released"})
    assert (status, said["votes"]) == (200, ["ev-1", "ev-2"])
    assert [one["id"] for one in (await up.call("GET", "/v1/quarantine"))[1]["data"]] == ["ev-3"]
    assert len((await up.call("GET", "/v1/quarantine?state=all&alias=heed"))[1]["data"]) == 3
    assert (await up.call("GET", "/v1/quarantine?state=all&alias=other"))[1]["data"] == []
    async with up.http.get(f"{up.url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    assert 'heed_quarantined_votes{alias="heed",kind="rate",verdict="released"} 2.0' in lines
    assert 'heed_quarantined_votes{alias="heed",kind="rate",verdict="open"} 1.0' in lines
    assert 'heed_quarantined_votes{alias="heed",kind="word",verdict="open"} 0.0' in lines


async def test_what_is_not_held_and_what_is_no_verdict_is_refused(up: Running) -> None:
    status, body = await up.call("POST", "/v1/quarantine/ev-none", {"verdict": "released"})
    assert (status, body["error"]["type"]) == (404, "invalid_request_error")
    up.gateway.registry.hold("heed", [held("ev-1", "qb-1", 1.0)])
    status, body = await up.call("POST", "/v1/quarantine/ev-1", {"verdict": "perhaps"})
    assert (status, body["error"]["param"]) == (422, "verdict")
    assert up.gateway.registry.quarantined()[0].verdict is None


async def test_operators_and_product_teams_may_look_and_nobody_else(
    tmp_path: Path, store: redis.Redis, valkey_url: str, fake: FakeEngine
) -> None:
    registry = RedisRegistry(connect(valkey_url))
    keys = {
        scope: create_key(registry, Terms([scope]))[1] for scope in ("chat", "annotate", "product", "ops")
    }
    async with running(tmp_path, engines=[fake.url], redis_url=valkey_url) as up:
        await until(lambda: len(up.gateway.table.keys) == 4)
        got = {}
        for scope, key in keys.items():
            heads = {"Authorization": f"Bearer {key}"}
            looked = (await up.call("GET", "/v1/quarantine", headers=heads))[0]
            decided = (await up.call("POST", "/v1/quarantine/qb-1", {"verdict": "released"}, heads))[0]
            got[scope] = (looked, decided)
    assert got == {"chat": (403, 403), "annotate": (403, 403), "product": (200, 404), "ops": (200, 404)}
