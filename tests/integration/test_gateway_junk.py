"""Whatever comes over the wire, the answer is a 4xx of the contract's shape, and never our fault."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from tests.unit.serve.running import Running, until

NAN, HUGE = float("nan"), 10**30
ARMS = [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}]


async def raw(up: Running, method: str, path: str, data: bytes) -> tuple[int, Any]:
    kind = {"content-type": "application/json"}
    async with up.http.request(method, up.url + path, data=data, headers=kind) as answer:
        return answer.status, await answer.json()


def arm(**sampling: Any) -> dict[str, Any]:
    return {"name": "e", "arms": [ARMS[0], {**ARMS[1], "sampling": sampling}]}


@pytest.mark.parametrize(
    ("method", "path", "body", "param"),
    [
        ("PATCH", "/v1/aliases/heed", {"criteria": {"helpful": NAN}}, "criteria.helpful"),
        ("PATCH", "/v1/aliases/heed", {"criteria": {"helpful": -1}}, "criteria.helpful"),
        ("PATCH", "/v1/aliases/heed", {"criteria": {"helpful": "1"}}, "criteria.helpful"),
        ("PATCH", "/v1/aliases/heed", {"criteria": {"Bad": 1}}, "criteria.Bad"),
        ("PATCH", "/v1/aliases/heed", {"thresholds": {"round_min_votes": float("inf")}}, "thresholds.round_min_votes"),
        ("PATCH", "/v1/aliases/heed", {"thresholds": {"round_min_votes": 0}}, "thresholds.round_min_votes"),
        ("PATCH", "/v1/aliases/heed", {"thresholds": {"round_min_votes": 0.5}}, "thresholds.round_min_votes"),
        ("PATCH", "/v1/aliases/heed", {"thresholds": {"data_dir": 1}}, "thresholds.data_dir"),
        ("POST", "/v1/aliases", {"name": "x", "thresholds": {"round_mini_votes": 9}}, "thresholds.round_mini_votes"),
        ("POST", "/v1/experiments", arm(temperature=NAN), "arms.sampling.temperature"),
        ("POST", "/v1/experiments", arm(temperature=9), "arms.sampling.temperature"),
        ("POST", "/v1/experiments", arm(max_tokens=HUGE), "arms.sampling.max_tokens"),
        ("POST", "/v1/experiments", arm(min_tokens=5), "arms.sampling.min_tokens"),
        ("POST", "/v1/experiments", {"name": "e", "arms": [{**ARMS[0], "share": "0.5"}, ARMS[1]]}, "arms.0.share"),
        ("POST", "/v1/adapters", {"path": "a\0b"}, "path"),
        ("POST", "/v1/adapters", {"path": "x" * 300}, "path"),
        ("POST", "/v1/adapters", {"path": 5}, "path"),
        ("POST", "/v1/feedback", {"response_id": "x", "rating": ["up"]}, "rating"),
        ("POST", "/v1/labels", {"response_id": "x", "labels": {"tone": True}}, "labels.tone"),
    ],
)  # fmt: skip
async def test_a_value_that_cannot_be_is_422_and_named(
    up: Running, method: str, path: str, body: Any, param: str
) -> None:
    status, answer = await raw(up, method, path, json.dumps(body).encode())
    assert (status, answer["error"]["param"]) == (422, param)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"NaN", b"[" * 100_000, b'{"a":' * 5000, b"\xff", b'{"a":1}'[:-1], b"9" * 5000]
)
async def test_bytes_that_are_no_json_object_are_refused_everywhere(up: Running, data: bytes) -> None:
    for path, status in (
        ("feedback", 422),
        ("aliases", 422),
        ("chat/completions", 400),
        ("chat/comparisons", 400),
    ):
        got, answer = await raw(up, "POST", f"/v1/{path}", data)
        assert (got, answer["error"]["param"]) == (status, "body"), path


@pytest.mark.parametrize(
    "path",
    [
        "/static/%00",
        "/static/" + "a" * 300,
        "/static/%2e%2e/app.py",
        "/%00",
        "/v1/models/%ff",
        "/v1/me/receipts/%00",
    ],
)
async def test_a_path_that_cannot_be_is_not_found(up: Running, path: str) -> None:
    assert (await up.call("GET", path))[0] == 404


async def test_a_method_that_is_not_taken_says_which_are(up: Running) -> None:
    async with up.http.request("PUT", f"{up.url}/v1/aliases/heed") as answer:
        assert answer.status == 405
        assert set(answer.headers["Allow"].split(", ")) <= {"GET", "HEAD", "PATCH"}
        assert (await answer.json())["error"]["code"] == "method_not_allowed"


async def test_a_query_that_names_nobody_is_refused_rather_than_taken_for_the_key(up: Running) -> None:
    for method, path in (("GET", "/v1/me"), ("DELETE", "/v1/me"), ("GET", "/v1/feedback/x")):
        for user in ("", "u" * 257):
            status, answer = await up.call(method, f"{path}?user={user}")
            assert (status, answer["error"]["param"]) == (422, "user"), (method, path)
    status, answer = await up.call("GET", "/v1/me", headers={"Heed-User": ""})
    assert (status, answer["error"]["param"]) == (400, "Heed-User")
    assert (await up.call("GET", "/v1/reports?state=shut"))[1]["error"]["param"] == "state"


async def test_an_identifier_is_the_same_in_body_and_header(up: Running) -> None:
    one = (await up.chat(user="Zoë"))[1]["id"]
    sent = b"POST /v1/feedback HTTP/1.1\r\nHost: 127.0.0.1\r\nHeed-User: Zo\xc3\xab\r\n"
    body = json.dumps({"response_id": one, "rating": "up"}).encode()
    head = b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert (await spoken(up, sent + head + body)).startswith(b"HTTP/1.1 201 ")


async def spoken(up: Running, data: bytes, *, finish: bool = False) -> bytes:
    """What is answered to raw bytes until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(up.url.rpartition(":")[2]))
    writer.write(data)
    if finish:
        writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return answer


async def test_a_client_that_leaves_within_its_body_is_no_fault_of_ours(
    up: Running, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("chat/completions", "chat/comparisons", "feedback"):
        head = f"POST /v1/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 50\r\n\r\n"
        assert await spoken(up, head.encode() + b"{", finish=True) == b""
    assert (await up.chat())[0] == 200
    assert not [record for record in caplog.records if record.exc_info]


async def test_pipelined_chats_and_old_http_are_answered_in_order(up: Running) -> None:
    body = json.dumps(
        {"model": "heed", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    ).encode()
    one = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
    )
    last = b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n"
    answer = await spoken(up, one + one + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.count(b"data: [DONE]") == 2
    assert answer.endswith(b'{"status":"ok"}')


async def test_a_streams_client_that_leaves_ends_the_chat(up: Running) -> None:
    body = {"model": "heed", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{up.url}/v1/chat/comparisons", json=body) as answer,
    ):
        await answer.content.readany()
    await until(lambda: up.gateway.limits.places.in_flight == 0)
    assert all(not engine.load for engine in up.gateway.pool.engines)
