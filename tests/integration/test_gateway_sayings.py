"""What is answered about feedback is what is kept: retries, kinds of ids, and several voices on one response."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.serve.running import Running, until

KEY = {"Idempotency-Key": "one-key"}
ASKED = {"model": "heed", "messages": [{"role": "user", "content": "hi"}]}


async def response_id(up: Running, **body: Any) -> str:
    return str((await up.chat(**body))[1]["id"])


async def pair(up: Running) -> tuple[str, str, str]:
    """A comparison's id and its two response ids."""
    _, body = await up.call("POST", "/v1/chat/comparisons", ASKED)
    return body["id"], body["choices"][0]["response_id"], body["choices"][1]["response_id"]


async def test_one_idempotency_key_on_two_responses_keeps_both_votes(up: Running) -> None:
    for one, rating in ((await response_id(up), "up"), (await response_id(up), "down")):
        said = {"response_id": one, "rating": rating}
        assert (await up.call("POST", "/v1/feedback", said, KEY))[0] == 201
        assert (await up.call("GET", f"/v1/feedback/{one}"))[1]["rating"] == rating


async def test_an_idempotency_key_with_another_preference_is_refused_and_not_confirmed(up: Running) -> None:
    name, first, second = await pair(up)
    said = {"comparison_id": name, "preferred": 0}
    assert (await up.call("POST", "/v1/comparisons", said, KEY))[0] == 201
    assert (await up.call("POST", "/v1/comparisons", said, KEY))[0] == 200
    status, body = await up.call("POST", "/v1/comparisons", {**said, "preferred": 1}, KEY)
    assert (status, body["error"]["code"]) == (409, "idempotency_key_reused")
    status, body = await up.call("POST", "/v1/comparisons", {**said, "preferred": 1})
    assert (status, body["ranking"]) == (200, [[second], [first]])


async def test_an_idempotency_key_with_other_labels_is_refused_and_not_confirmed(up: Running) -> None:
    said = {"response_id": await response_id(up), "labels": {"tone": 0.5}}
    assert (await up.call("POST", "/v1/labels", said, KEY))[0] == 201
    assert (await up.call("POST", "/v1/labels", said, KEY))[0] == 200
    status, body = await up.call("POST", "/v1/labels", {**said, "labels": {"tone": 0.6}}, KEY)
    assert (status, body["error"]["code"]) == (409, "idempotency_key_reused")


async def test_a_retried_report_is_the_same_report(up: Running) -> None:
    said = {"response_id": await response_id(up), "kind": "unsafe"}
    status, first = await up.call("POST", "/v1/reports", said, KEY)
    assert status == 201
    status, again = await up.call("POST", "/v1/reports", said, KEY)
    assert (status, again) == (200, first)
    status, body = await up.call("POST", "/v1/reports", {**said, "kind": "rude"}, KEY)
    assert (status, body["error"]["code"]) == (409, "idempotency_key_reused")
    assert (await up.call("POST", f"/v1/reports/{first['id']}", {"verdict": "upheld"}))[0] == 200
    assert (await up.call("POST", "/v1/reports", said, KEY))[1]["verdict"] == "upheld"


async def test_labels_leave_the_vote_of_the_same_person_standing(up: Running) -> None:
    one = await response_id(up)
    await up.call("POST", "/v1/feedback", {"response_id": one, "rating": "up"})
    assert (await up.call("POST", "/v1/labels", {"response_id": one, "labels": {"tone": 0.1}}))[0] == 201
    assert (await up.call("GET", f"/v1/feedback/{one}"))[1]["rating"] == "up"
    assert up.gateway.log.votes_total("heed") == 1


async def test_a_comparisons_id_is_no_response_and_a_responses_id_no_comparison(up: Running) -> None:
    name, first, second = await pair(up)
    for path, body in (
        ("feedback", {"response_id": name, "rating": "up"}),
        ("labels", {"response_id": name, "labels": {"tone": 1}}),
        ("reports", {"response_id": name, "kind": "unsafe"}),
        ("comparisons", {"ranking": [[name], [first]]}),
        ("comparisons", {"comparison_id": first, "preferred": 0}),
        ("comparisons", {"comparison_id": first, "ranking": [[first], [second]]}),
    ):
        status, answer = await up.call("POST", f"/v1/{path}", body)
        assert (status, answer["error"]["code"]) == (404, "response_not_found"), (path, body)
    for method in ("GET", "DELETE"):
        assert (await up.call(method, f"/v1/feedback/{name}"))[0] == 404


async def test_a_ranking_under_a_comparison_is_of_its_own_two_responses(up: Running) -> None:
    name, first, second = await pair(up)
    other = await response_id(up)
    said = {"comparison_id": name, "ranking": [[other], [first]]}
    status, body = await up.call("POST", "/v1/comparisons", said)
    assert (status, body["error"]["param"]) == (422, "ranking")
    status, body = await up.call("POST", "/v1/comparisons", {**said, "ranking": [[second], [first]]})
    assert (status, body["ranking"]) == (201, [[second], [first]])


async def test_a_ranking_with_somebody_elses_response_beside_ones_own_is_answered_as_a_forged_one(
    up: Running,
) -> None:
    mine, theirs = await response_id(up, user="ann"), await response_id(up, user="bob")
    name, *_ = await pair(up)
    answers = [
        await up.call("POST", "/v1/comparisons", {**said, "user": "ann"})
        for said in (
            {"ranking": [[mine], [theirs]]},
            {"ranking": [[theirs, mine]]},
            {"ranking": [[mine], [f"{mine[:-1]}{'A' if mine[-1] != 'A' else 'B'}"]]},
            {"comparison_id": name, "preferred": 0},
            {"comparison_id": mine, "preferred": "tie"},
        )
    ]
    assert {status for status, _ in answers} == {404}
    assert all(body == answers[0][1] for _, body in answers)


async def test_a_ranking_over_different_prompts_is_refused(up: Running) -> None:
    ids = [
        await response_id(up, messages=[{"role": "user", "content": text}]) for text in ("one", "two", "one")
    ]
    await until(lambda: all(up.gateway.log.response(one) for one in ids))
    status, body = await up.call("POST", "/v1/comparisons", {"ranking": [[ids[0]], [ids[1]]]})
    assert (status, body["error"]["param"]) == (422, "ranking")
    assert (await up.call("POST", "/v1/comparisons", {"ranking": [[ids[0]], [ids[2]]]}))[0] == 201


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"preferred": True}, "preferred"),
        ({"preferred": 1.0}, "preferred"),
        ({"preferred": None}, "preferred"),
        ({"preferred": 0, "comparison_id": None}, "comparison_id"),
        ({"preferred": 0, "ranking": [["a"], ["b"]]}, "ranking"),
    ],
)
async def test_a_malformed_preference_names_its_field(up: Running, more: dict[str, Any], param: str) -> None:
    status, body = await up.call("POST", "/v1/comparisons", {"comparison_id": "cmpr-x", **more})
    assert (status, body["error"]["param"]) == (422, param)
    assert "Value error" not in body["error"]["message"]
