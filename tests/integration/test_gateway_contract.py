"""The contract's routes over real HTTP: statuses, shapes, scopes, and what is refused."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis
from openapi_spec_validator import validate

from feedback.ids import mint_response
from feedback.metrics import TABLE
from feedback.protocols import KeyRecord
from serve.auth import digest_of
from tests.servers import ROOT
from tests.unit.serve.fake_engine import FakeEngine
from tests.unit.serve.running import Running, running, until

ROUTES = {
    "/v1/chat/completions": {"post"},
    "/v1/models": {"get"},
    "/v1/models/{model}": {"get"},
    "/v1/chat/comparisons": {"post"},
    "/v1/feedback": {"post"},
    "/v1/feedback/{response_id}": {"get", "delete"},
    "/v1/comparisons": {"post"},
    "/v1/labels": {"post"},
    "/v1/quarantine": {"get"},
    "/v1/quarantine/{name}": {"post"},
    "/v1/reports": {"get", "post"},
    "/v1/reports/{report_id}": {"post"},
    "/v1/me": {"get", "delete"},
    "/v1/me/receipts/{receipt_id}": {"get"},
    "/v1/annotations/next": {"get"},
    "/v1/annotations/raters": {"get"},
    "/v1/aliases": {"get", "post"},
    "/v1/aliases/{name}": {"get", "patch"},
    "/v1/adapters": {"get", "post"},
    "/v1/adapters/{adapter_id}": {"get"},
    "/v1/adapters/{adapter_id}/promote": {"post"},
    "/v1/adapters/{adapter_id}/retire": {"post"},
    "/v1/rollback": {"post"},
    "/v1/experiments": {"get", "post"},
    "/v1/experiments/{name}": {"get", "patch"},
    "/v1/experiments/{name}/report": {"get"},
    "/v1/loop": {"get"},
    "/v1/loop/train": {"post"},
    "/v1/loop/cancel": {"post"},
    "/v1/feedback/export": {"get"},
    "/healthz": {"get"},
    "/readyz": {"get"},
    "/metrics": {"get"},
}


async def response_id(up: Running, **body: Any) -> str:
    return str((await up.chat(**body))[1]["id"])


async def test_every_route_of_the_contract_is_there_and_the_description_is_valid(up: Running) -> None:
    _, described = await up.call("GET", "/openapi.json")
    validate(described)
    for path, methods in ROUTES.items():
        assert methods <= described["paths"][path].keys(), path
    assert described["components"]["schemas"]["ChatBody"]["properties"]["messages"]


async def test_a_vote_is_stored_once_and_the_last_one_counts(up: Running) -> None:
    one = await response_id(up)
    said = {"response_id": one, "rating": "up", "reasons": ["kind"], "comment": "nice", "correction": "nicer"}
    status, first = await up.call("POST", "/v1/feedback", said)
    assert (status, first["status"], first["rating"]) == (201, "stored", "up")
    status, again = await up.call("POST", "/v1/feedback", said)
    assert (status, again) == (200, first)
    status, other = await up.call("POST", "/v1/feedback", {**said, "rating": "down"})
    assert (status, other["feedback_id"]) == (200, first["feedback_id"])
    _, held = await up.call("GET", f"/v1/feedback/{one}")
    assert (held["rating"], held["reasons"], held["correction"]) == ("down", ["kind"], "nicer")
    assert [entry["rating"] for entry in held["history"]] == ["up", "down"]
    status, gone = await up.call("DELETE", f"/v1/feedback/{one}")
    assert (status, gone["rating"]) == (200, None)
    assert (await up.call("GET", f"/v1/feedback/{one}"))[0] == 404
    value = up.gateway.metrics.registry.get_sample_value
    assert value("heed_votes_total", {"adapter": "base", "rating": "up"}) == 1


async def test_an_idempotency_key_makes_a_retry_the_same_event(up: Running) -> None:
    one = await response_id(up)
    key = {"Idempotency-Key": "abc"}
    said = {"response_id": one, "rating": "up"}
    assert (await up.call("POST", "/v1/feedback", said, key))[0] == 201
    assert (await up.call("POST", "/v1/feedback", {**said, "rating": "down"}))[0] == 200
    assert (await up.call("POST", "/v1/feedback", said, key))[0] == 200
    assert (await up.call("GET", f"/v1/feedback/{one}"))[1]["rating"] == "down"
    status, body = await up.call("POST", "/v1/feedback", {**said, "rating": "down"}, key)
    assert (status, body["error"]["code"]) == (409, "idempotency_key_reused")


async def test_unknown_forged_and_foreign_ids_are_not_told_apart(up: Running) -> None:
    mine = await response_id(up, user="alice")
    forged = mine[:-3] + ("abc" if not mine.endswith("abc") else "abd")
    answers = []
    for name, user in (
        ("nonsense", "alice"),
        ("chatcmpl-x", "alice"),
        (forged, "alice"),
        (mine, "bob"),
        (mine, None),
    ):
        body = {"response_id": name, "rating": "up", **({"user": user} if user else {})}
        answers.append(await up.call("POST", "/v1/feedback", body))
    assert {status for status, _ in answers} == {404}
    assert len({json.dumps(body) for _, body in answers}) == 1
    assert answers[0][1]["error"]["code"] == "response_not_found"
    ok = {"response_id": mine, "rating": "up"}
    assert (await up.call("POST", "/v1/feedback", ok, {"Heed-User": "alice"}))[0] == 201


async def test_a_response_past_its_life_is_gone_but_a_vote_can_still_be_taken_back(up: Running) -> None:
    subject = up.gateway.doorman.subject(_local(), _bare())
    old = mint_response(up.gateway.secrets, subject, now=time.time() - 31 * 86400)
    status, body = await up.call("POST", "/v1/feedback", {"response_id": old, "rating": "up"})
    assert (status, body["error"]["code"]) == (410, "response_expired")
    assert (await up.call("DELETE", f"/v1/feedback/{old}"))[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("feedback", {"rating": "up"}, "response_id"),
        ("feedback", {"response_id": "x", "rating": "sideways"}, "rating"),
        ("feedback", {"response_id": "x", "rating": "up", "ratings": 1}, "ratings"),
        ("feedback", {"response_id": "x", "rating": "up", "reasons": "kind"}, "reasons"),
        ("feedback", {"response_id": "x", "rating": "up", "comment": "x" * 4001}, "comment"),
        ("comparisons", {"comparison_id": "x", "preferred": 2}, "preferred"),
        ("comparisons", {"comparison_id": "x"}, "preferred"),
        ("labels", {"response_id": "x", "labels": {"helpful": 1.5}}, "labels.helpful"),
        ("labels", {"response_id": "x", "labels": {"helpful": True}}, "labels.helpful"),
        ("labels", {"response_id": "x", "labels": {}}, "labels"),
        ("comparisons", {"comparison_id": "x", "preferred": True}, "preferred"),
        ("reports", {"response_id": "x"}, "kind"),
        ("experiments", {"name": "e", "arms": [{"name": "a", "share": 1}]}, "arms"),
        ("experiments", {"name": "e", "arms": [{"name": "a", "share": True}] * 2}, "arms.0.share"),
        ("aliases", {"name": "Bad Name"}, "name"),
        ("aliases", {"name": "a", "thresholds": {"gate_max_kl": True}}, "thresholds.gate_max_kl"),
        ("aliases", {"name": "a", "thresholds": {"round_min_votes": False}}, "thresholds.round_min_votes"),
        ("aliases", {"name": "a", "thresholds": {"round_min_votes": "5"}}, "thresholds.round_min_votes"),
        ("aliases", {"name": "a", "criteria": {"helpful": True}}, "criteria.helpful"),
    ],
)
async def test_a_malformed_body_is_422_and_names_the_field(
    up: Running, path: str, body: dict[str, Any], param: str
) -> None:
    status, answer = await up.call("POST", f"/v1/{path}", body)
    assert status == 422
    assert str(answer["error"]["param"]).startswith(param), answer
    assert answer["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("feedback", {"rating": "up"}, "response_id: must be given"),
        (
            "feedback",
            {"response_id": "x", "rating": "up", "star": 1},
            "star: is not a field that is taken here",
        ),
        ("feedback", {"response_id": "x", "rating": 1}, "rating: must be 'up' or 'down'"),
        ("feedback", {"response_id": 1, "rating": "up"}, "response_id: must be text"),
        ("feedback", {"response_id": "", "rating": "up"}, "response_id: must have at least 1 character"),
        ("feedback", {"response_id": "x", "rating": "up", "reasons": "a"}, "reasons: must be a list"),
        (
            "feedback",
            {"response_id": "x", "rating": "up", "reasons": ["a"] * 17},
            "reasons: must have at most 16 items",
        ),
        ("feedback", [1], "body: must be a JSON object"),
        ("labels", {"response_id": "x", "labels": []}, "labels: must be an object"),
        (
            "labels",
            {"response_id": "x", "labels": {"tone": 2}},
            "labels.tone: must be less than or equal to 1",
        ),
        ("aliases", {"name": "Bad"}, "name: must match ^[a-z0-9][a-z0-9_.-]{0,63}$"),
        (
            "aliases",
            {"name": "a", "thresholds": {"gate_max_kl": True}},
            "thresholds.gate_max_kl: must be a number",
        ),
    ],
)
async def test_a_refusal_says_what_would_be_taken(up: Running, path: str, body: Any, said: str) -> None:
    status, answer = await up.call("POST", f"/v1/{path}", body)
    assert (status, answer["error"]["message"]) == (422, said)


async def test_rankings_labels_and_reports_are_kept(up: Running) -> None:
    ids = [await response_id(up) for _ in range(3)]
    status, body = await up.call("POST", "/v1/comparisons", {"ranking": [[ids[0]], [ids[1], ids[2]]]})
    assert (status, body["ranking"]) == (201, [[ids[0]], [ids[1], ids[2]]])
    status, body = await up.call("POST", "/v1/comparisons", {"ranking": [[ids[0]], [ids[0]]]})
    assert (status, body["error"]["param"]) == (422, "ranking")
    status, body = await up.call("POST", "/v1/labels", {"response_id": ids[0], "labels": {"helpful": 0.5}})
    assert (status, body["status"]) == (201, "stored")
    status, report = await up.call("POST", "/v1/reports", {"response_id": ids[0], "kind": "unsafe"})
    assert (status, report["verdict"]) == (201, None)
    assert [one["id"] for one in (await up.call("GET", "/v1/reports"))[1]["data"]] == [report["id"]]
    status, body = await up.call("POST", f"/v1/reports/{report['id']}", {"verdict": "dismissed"})
    assert (status, body["verdict"]) == (200, "dismissed")
    assert (await up.call("GET", "/v1/reports"))[1]["data"] == []
    assert (await up.call("POST", "/v1/reports/rp-none", {"verdict": "upheld"}))[0] == 404


async def test_aliases_are_made_changed_and_served(up: Running) -> None:
    made = {"name": "support", "guidelines": "Be brief.", "criteria": {"helpful": 1.0, "brevity": 0.5}}
    status, alias = await up.call("POST", "/v1/aliases", made)
    assert (status, alias["mode"], alias["live"]) == (201, "auto", None)
    status, body = await up.call("POST", "/v1/aliases", made)
    assert (status, body["error"]["message"]) == (409, "support exists already")
    status, changed = await up.call("PATCH", "/v1/aliases/support", {"mode": "approve"})
    assert (status, changed["mode"], changed["guidelines"]) == (200, "approve", "Be brief.")
    assert (await up.call("PATCH", "/v1/aliases/support", {"mode": "off", "version": 1}))[0] == 409
    assert (await up.call("GET", "/v1/aliases/nobody"))[0] == 404
    await until(lambda: "support" in up.gateway.table.aliases)
    assert (await up.chat(model="support"))[1]["model"] == "support"


async def test_experiments_are_made_ramped_and_stopped(up: Running) -> None:
    arms = [
        {"name": "control", "share": 0.9},
        {"name": "warm", "share": 0.1, "sampling": {"temperature": 1.2}},
    ]
    status, made = await up.call("POST", "/v1/experiments", {"name": "e1", "arms": arms})
    assert (status, made["status"], made["alias"]) == (201, "running", "heed")
    status, body = await up.call("POST", "/v1/experiments", {"name": "e2", "arms": arms})
    assert (status, "e1 runs on alias heed, stop it first" in body["error"]["message"]) == (409, True)
    uneven = {"shares": {"warm": 0.5}}
    assert (await up.call("PATCH", "/v1/experiments/e1", uneven))[0] == 422
    status, ramped = await up.call("PATCH", "/v1/experiments/e1", {"shares": {"control": 0.5, "warm": 0.5}})
    assert (status, [arm["share"] for arm in ramped["arms"]]) == (200, [0.5, 0.5])
    status, stopped = await up.call("PATCH", "/v1/experiments/e1", {"status": "stopped", "reason": "enough"})
    assert (status, stopped["status"], stopped["history"][-1]["reason"]) == (200, "stopped", "enough")
    assert (await up.call("POST", "/v1/experiments", {"name": "e2", "arms": arms}))[0] == 201


async def test_a_round_that_runs_can_be_asked_to_end_and_one_that_does_not_cannot(up: Running) -> None:
    status, refused = await up.call("POST", "/v1/loop/cancel")
    assert (status, refused["error"]["message"]) == (409, "no round of heed runs")
    up.gateway.registry.set_loop("heed", {"starts": 1, "round_started": 1.0, "step": "ppo"})
    status, asked = await up.call("POST", "/v1/loop/cancel", {"alias": "heed"})
    assert (status, asked["alias"], asked["step"]) == (202, "heed", "ppo")
    _, loop = await up.call("GET", "/v1/loop")
    assert loop["cancel_requested"] == asked["cancel_requested"] > 1.0


async def test_training_can_be_asked_for_and_the_loop_tells(up: Running) -> None:
    status, asked = await up.call("POST", "/v1/loop/train", {"alias": "heed"})
    assert status == 202
    await up.chat()
    _, loop = await up.call("GET", "/v1/loop")
    assert loop["train_requested"] == asked["train_requested"]
    assert (loop["alias"], loop["live"]) == ("heed", None)
    assert loop["waiting"].keys() == {"events", "votes", "oldest_seconds"}
    for name in ("step", "progress", "last_batch", "last_reward_model", "last_adapter", "freshness_seconds"):
        assert loop[name] is None, name


async def test_a_rater_gets_each_prompt_once_and_answers_with_a_comparison(up: Running) -> None:
    assert (await up.call("GET", "/v1/annotations/next"))[0] == 404
    await up.chat(messages=[{"role": "user", "content": "what is tea?"}], user="alice")
    status, task = await up.call("GET", "/v1/annotations/next?alias=heed&user=rater")
    assert status == 200
    assert task["messages"] == [{"role": "user", "content": "what is tea?"}]
    assert len(task["choices"]) == 2
    said = {"comparison_id": task["comparison_id"], "preferred": "both_bad", "user": "rater"}
    assert (await up.call("POST", "/v1/comparisons", said))[0] == 201
    assert (await up.call("GET", "/v1/annotations/next?user=rater"))[0] == 404
    assert (await up.call("GET", "/v1/annotations/next?user=other"))[0] == 200


async def test_what_is_held_is_told_and_forgetting_gives_a_receipt(up: Running) -> None:
    one = await response_id(up, user="alice")
    await up.call("POST", "/v1/feedback", {"response_id": one, "rating": "up", "user": "alice"})
    _, held = await up.call("GET", "/v1/me", headers={"Heed-User": "alice"})
    assert [(entry["response_id"], entry["rating"]) for entry in held["responses"]] == [(one, "up")]
    _, recent = await up.call("GET", "/v1/me?recent=true", headers={"Heed-User": "alice"})
    assert [(entry["response_id"], entry["rating"]) for entry in recent["responses"]] == [(one, "up")]
    assert "text" not in recent["responses"][0]
    assert "alice" not in json.dumps(held)
    other = await response_id(up, user="alice")
    for path, body in (
        ("comparisons", {"ranking": [[one], [other]]}),
        ("labels", {"response_id": one, "labels": {"tone": 0.5}}),
        ("reports", {"response_id": other, "kind": "rude"}),
    ):
        await up.call("POST", f"/v1/{path}", {**body, "user": "alice"})
    _, held = await up.call("GET", "/v1/me", headers={"Heed-User": "alice"})
    assert [said["ranking"] for said in held["comparisons"]] == [[[one], [other]]]
    assert [said["labels"] for said in held["labels"]] == [{"tone": 0.5}]
    assert [(said["response_id"], said["report_kind"]) for said in held["reports"]] == [(other, "rude")]
    status, receipt = await up.call("DELETE", "/v1/me", headers={"Heed-User": "alice"})
    assert (status, receipt["status"]) == (202, "pending")
    status, told = await up.call("GET", f"/v1/me/receipts/{receipt['id']}")
    assert (status, told) == (200, receipt)
    assert "subject" not in told
    assert (await up.call("GET", "/v1/me/receipts/fr-none"))[0] == 404


async def test_the_archive_is_exported_as_lines(up: Running) -> None:
    from feedback.archive import Archive

    one = await response_id(up)
    await up.call("POST", "/v1/feedback", {"response_id": one, "rating": "up"})
    entries = up.gateway.log.claim("test", 10)
    Archive(up.gateway.settings.archive_dir).write(entries)
    async with up.http.get(f"{up.url}/v1/feedback/export?format=binary") as answer:
        assert answer.content_type == "application/x-ndjson"
        (line,) = (await answer.text()).splitlines()
    assert json.loads(line)["label"] is True
    assert (await up.call("GET", "/v1/feedback/export?format=csv"))[0] == 422
    assert (await up.call("GET", "/v1/feedback/export?since=yesterday"))[0] == 422


async def test_scopes_are_asked_for_once_there_is_a_key(up: Running) -> None:
    for name in ("chat", "annotate", "product", "ops", "admin"):
        record = KeyRecord(id=f"k-{name}", digest=digest_of(name), scopes=(name,), created=1.0)
        up.gateway.registry.put_key(record)
    await until(lambda: len(up.gateway.table.keys) == 5)

    async def status(key: str | None, method: str, path: str, body: Any = None) -> int:
        headers = {"Authorization": f"Bearer {key}"} if key else None
        return (await up.call(method, path, body, headers))[0]

    chat = {"model": "heed", "messages": [{"role": "user", "content": "hi"}]}
    assert await status(None, "POST", "/v1/chat/completions", chat) == 401
    assert await status("wrong", "POST", "/v1/chat/completions", chat) == 401
    assert await status("chat", "POST", "/v1/chat/completions", chat) == 200
    assert await status("ops", "POST", "/v1/chat/completions", chat) == 403
    assert await status("chat", "POST", "/v1/chat/completions", {**chat, "model": "heed:base"}) == 403
    assert await status("admin", "POST", "/v1/chat/completions", {**chat, "model": "heed:base"}) == 200
    assert await status("chat", "GET", "/v1/aliases") == 403
    assert await status("product", "GET", "/v1/aliases") == 200
    assert await status("chat", "GET", "/v1/annotations/next") == 403
    unknown = {"comparison_id": "cmpr-x", "preferred": 0}
    assert await status("annotate", "POST", "/v1/comparisons", unknown) == 404
    assert await status("ops", "POST", "/v1/comparisons", unknown) == 403
    assert await status("product", "GET", "/v1/engines") == 403
    assert await status("ops", "GET", "/v1/engines") == 200
    assert await status(None, "GET", "/healthz") == 200
    _, models = await up.call("GET", "/v1/models", headers={"Authorization": "Bearer chat"})
    assert [model["id"] for model in models["data"]] == ["heed"]


async def test_foreign_hosts_and_origins_are_refused(up: Running) -> None:
    assert (await up.call("GET", "/healthz", headers={"Host": "evil.example"}))[0] == 403
    assert (await up.call("GET", "/healthz", headers={"Origin": "http://evil.example"}))[0] == 403
    assert (await up.call("GET", "/healthz", headers={"Origin": "null"}))[0] == 403
    assert (await up.call("GET", "/healthz", headers={"Origin": up.url}))[0] == 200


async def test_a_body_over_the_cap_is_refused_announced_or_not(up: Running) -> None:
    big = b"x" * (1024 * 1024 + 1)

    async def pieces() -> AsyncIterator[bytes]:
        yield big

    for data in (big, pieces()):
        async with up.http.post(f"{up.url}/v1/chat/completions", data=data) as answer:
            assert answer.status == 413
            assert (await answer.json())["error"]["code"] == "body_too_large"


async def test_errors_that_no_route_made_have_the_same_shape(up: Running) -> None:
    status, body = await up.call("GET", "/v1/nowhere")
    assert (status, body["error"]["code"]) == (404, "not_found")
    status, body = await up.call("DELETE", "/v1/aliases")
    assert (status, body["error"]["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("aliases", "GET, HEAD, POST"),
        ("feedback/export", "GET, HEAD"),
        ("feedback/chatcmpl-x", "DELETE, GET, HEAD"),
        ("chat/completions", "POST"),
    ],
)
async def test_a_405_tells_every_method_of_the_address(up: Running, path: str, allowed: str) -> None:
    async with up.http.request("PUT", f"{up.url}/v1/{path}") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, allowed)


async def test_every_answer_has_a_request_id_of_its_own(up: Running) -> None:
    ids = set()
    for path in ("healthz", "v1/models", "v1/nowhere", "v1/nowhere"):
        async with up.http.get(f"{up.url}/{path}", headers={"X-Request-Id": "of-the-client"}) as answer:
            ids.add(answer.headers["X-Request-Id"])
    assert len(ids) == 4
    assert all(one.startswith("req_") and len(one) == 36 for one in ids)


async def test_no_identifier_or_text_is_in_the_metrics(up: Running) -> None:
    await up.chat(user="alice-the-secret", messages=[{"role": "user", "content": "tell nobody"}])
    await up.chat(model="made-up-by-client")
    async with up.http.get(f"{up.url}/metrics") as answer:
        text = await answer.text()
    for secret in ("alice", "tell nobody", "made-up"):
        assert secret not in text
    assert 'heed_chat_requests_total{adapter="base",alias="heed",arm="live",code="200"} 1.0' in text


async def test_what_workers_publish_is_in_the_metrics(up: Running) -> None:
    gauges = {"ppo_kl_nats": 0.5, "reward_model_accuracy": [{"labels": {"split": "holdout"}, "value": 0.7}]}
    up.gateway.registry.set_loop("heed", {"metrics": gauges})
    async with up.http.get(f"{up.url}/metrics") as answer:
        text = await answer.text()
    assert 'heed_ppo_kl_nats{alias="heed"} 0.5' in text
    assert 'heed_reward_model_accuracy{alias="heed",split="holdout"} 0.7' in text


async def test_every_metric_is_told_of_from_the_start_and_the_schedules_tasks_are_among_them(
    up: Running,
) -> None:
    up.gateway.registry.set_loop("_workers", {"archive": {"last_success": 5.0, "seconds": 0.25}})
    async with up.http.get(f"{up.url}/metrics") as answer:
        text = await answer.text()
    for metric in TABLE:
        assert f"# HELP {metric.full.removesuffix('_total')}" in text, metric.name
    assert 'heed_task_last_success_timestamp_seconds{alias="",task="archive"} 5.0' in text
    assert 'heed_task_duration_seconds{alias="",task="archive"} 0.25' in text


async def test_a_full_house_answers_503_with_retry_after(
    tmp_path: Path, store: redis.Redis, valkey_url: str, fake: FakeEngine
) -> None:
    fake.holds_after = 2
    async with running(tmp_path, engines=[fake.url], redis_url=valkey_url, max_chats_in_flight=1) as up:
        body = {"model": "heed", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        async with up.http.post(f"{up.url}/v1/chat/completions", json=body) as answer:
            status, refused, headers = await up.chat()
            assert (status, refused["error"]["code"], headers["Retry-After"]) == (503, "at_capacity", "1")
            fake.holds_after = None
            await answer.text()
        await until(lambda: up.gateway.limits.places.in_flight == 0)
        assert (await up.chat())[0] == 200


def test_an_address_others_can_reach_is_refused_without_a_key(tmp_path: Path) -> None:
    env = {"HEED_DATA_DIR": str(tmp_path), "HEED_HOST": "0.0.0.0", "HEED_REDIS_URL": "redis://127.0.0.1:9/0"}
    ran = subprocess.run(
        [sys.executable, "-m", "serve"],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ran.returncode == 2
    assert "heed keys create" in ran.stderr


def _local() -> Any:
    from serve.auth import LOCAL_KEY, SCOPES, Caller

    return Caller(LOCAL_KEY, SCOPES, keyless=True)


def _bare() -> Any:
    from starlette.requests import Request

    return Request({"type": "http", "headers": [], "client": ("127.0.0.1", 1), "method": "GET", "path": "/"})


async def test_many_users_are_answered_at_once(up: Running) -> None:
    answers = await asyncio.gather(*(up.chat(user=f"u{number}") for number in range(50)))
    assert {status for status, _, _ in answers} == {200}
    assert len({body["id"] for _, body, _ in answers}) == 50
