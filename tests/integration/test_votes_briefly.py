"""A vote that takes the short way is answered as by the framework, which takes every other kind of JSON."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from feedback.ids import mint_response, subject_of
from serve.auth import LOCAL_KEY
from tests.unit.serve.running import Running

SHORT, LONG = "application/json", "application/vote+json"
KEY = {"Idempotency-Key": "k" * 256}


def name(up: Running, user: str = "ann", **more: Any) -> str:
    subject = subject_of(up.gateway.secrets, LOCAL_KEY, f"user:{user}")
    return mint_response(up.gateway.secrets, subject, **{"now": time.time(), **more})


async def answered(up: Running, kind: str | None, data: bytes, headers: dict[str, str]) -> tuple[int, Any]:
    kinds = {} if kind is None else {"content-type": kind}
    sent = up.http.post(
        f"{up.url}/v1/feedback", data=data, headers={**headers, **kinds}, skip_auto_headers=["content-type"]
    )
    async with sent as answer:
        return answer.status, await answer.json()


def body(**more: Any) -> bytes:
    return json.dumps({"rating": "up", "user": "ann", "response_id": "x", **more}).encode()


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b"", {}),
        (b"{", {}),
        (b"[]", {}),
        (b"null", {}),
        (b"[" * 100_000, {}),
        (b"\xef\xbb\xbf" + body(), {}),
        (body().decode().encode("utf-16"), {}),
        (body()[:-1] + b',"rating":"left"}', {}),
        (body()[:-1] + b',"comment":"\\ud800"}', {}),
        (body()[:-1] + b',"comment":"\xff"}', {}),
        (body(comment=float("nan")), {}),
        (body(comment=5), {}),
        (body(comment="x" * 4001), {}),
        (body(correction=["x"]), {}),
        (body(rating=None), {}),
        (body(rating=True), {}),
        (body(rating="UP"), {}),
        (body(reasons="tone"), {}),
        (body(reasons=["tone", 5]), {}),
        (body(reasons=[""]), {}),
        (body(reasons=["x"] * 17), {}),
        (body(response_id=""), {}),
        (body(response_id="x" * 513), {}),
        (body(user=""), {}),
        (body(stars=5), {}),
        (body(**{f"f{number}": 1 for number in range(65)}), {}),
        (b'{"rating":"up"}', {}),
        (b'{"response_id":"x"}', {}),
        (body(), {}),
        (body(), KEY),
        (body(user=None), {"Heed-User": "a" * 257}),
    ],
)
async def test_what_is_wrong_with_a_vote_is_said_alike(
    up: Running, data: bytes, headers: dict[str, str]
) -> None:
    short, long = [await answered(up, kind, data, headers) for kind in (SHORT, LONG)]
    assert short == long
    assert short[0] in {400, 404, 422}


@pytest.mark.parametrize("kind", [SHORT, "Application/JSON; charset=utf-8", LONG])
async def test_a_good_vote_is_kept_alike(up: Running, kind: str) -> None:
    one = name(up)
    said = {"reasons": ["tone"], "comment": "né", "correction": None, "response_id": one}
    first = await answered(up, kind, body(**said), {"Idempotency-Key": "one"})
    again = await answered(up, kind, body(**said), {"Idempotency-Key": "one"})
    other = await answered(up, kind, body(**said, rating="down"), {"Idempotency-Key": "one"})
    assert (first[0], again[0], other[0]) == (201, 200, 409)
    assert first[1] == again[1]
    assert first[1] == {
        "feedback_id": first[1]["feedback_id"],
        "response_id": one,
        "rating": "up",
        "status": "stored",
    }
    _, held = await up.call("GET", f"/v1/feedback/{one}?user=ann")
    assert (held["comment"], held["reasons"], held["correction"]) == ("né", ["tone"], None)


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"user": "bob"}, 404, "response_not_found"),
        ({"now": 1e9}, 410, "response_expired"),
        ({"stored": False}, 409, "response_not_stored"),
    ],
)
async def test_an_id_that_may_not_be_voted_on_is_refused_alike(
    up: Running, more: dict[str, Any], status: int, code: str
) -> None:
    data = body(response_id=name(up, **more))
    for kind in (SHORT, LONG):
        got, told = await answered(up, kind, data, {})
        assert (got, told["error"]["code"]) == (status, code)


async def test_a_body_without_a_type_is_no_vote(up: Running) -> None:
    status, told = await answered(up, None, body(response_id=name(up)), {})
    assert (status, told["error"]["param"]) == (422, "body")
